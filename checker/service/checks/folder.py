"""What the checker needs from the folder that it is to watch, and from the runs in it."""

from __future__ import annotations

import fcntl
import os
import pwd
import shlex
import stat
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import contract
from checker import limits, process
from checker.alarms import fares, record
from checker.alarms.record import Health
from checker.events import Life
from checker.finding import Severity
from checker.mounts import Mount, mount
from checker.places import folders
from checker.rehearse import rehearse
from checker.service import alive
from checker.service.checks import machine
from checker.service.checks.check import Answer, fail, ok, warn
from checker.wording import count

WALK_SECONDS = 0.5
"""For counting the folders below; more than can be counted in that time are too many anyway."""

FREE_BYTES = (100 << 20, 1 << 30)
"""Less free space than this is a failure, a warning. A checkpoint of a small model takes as much."""

FREE_FILES = (1_000, 10_000)

SKEW_SECONDS = 2.0
"""Between the clock here and the time stamps of the folder; a run's heartbeat comes every second."""

FRESH_SECONDS = 600.0
"""A status file is written every few seconds; a slow evaluation or a paused machine may take some minutes."""

PROBE = ".checker.doctor"


class Live(NamedTuple):
    """A run that goes on."""

    folder: Path
    pid: int
    life: Life


class Place:
    """The folder, and what several checks ask about it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def mount(self) -> Mount:
        return mount(self.root)

    @cached_property
    def runs(self) -> list[Path]:
        return list(folders(self.root))

    @cached_property
    def live(self) -> list[Live]:
        """The runs that go on, as far as can be told."""
        return [found for run in self.runs if (found := _live(run)) is not None]

    @cached_property
    def below(self) -> tuple[int, bool]:
        """How many folders there are, itself included, and whether that is all."""
        end, known = time.monotonic() + WALK_SECONDS, 0
        for _ in os.walk(self.root):
            known += 1
            if time.monotonic() > end:
                return known, False
        return known, True


def _live(run: Path) -> Live | None:
    """The run in a folder, if it goes on. Of one that may have died with its machine, its status file must be fresh."""
    try:
        document = contract.StatusFile(run).read() or {}
        age = time.time() - os.stat(run / contract.STATUS).st_mtime
    except (OSError, contract.Unreadable):
        return None
    if contract.run_state(document) is not contract.State.RUNNING:
        return None
    named = process.parse(document)
    life = process.look(named)
    if life is Life.GONE or (life is Life.UNKNOWN and age > FRESH_SECONDS):
        return None
    return Live(run, named.pid if named else 0, life)


def access(place: Place) -> Answer:
    """Whether the folder can be read and written."""
    root = place.root
    wanted = {"read": os.R_OK, "written": os.W_OK, "entered": os.X_OK}
    missing = [name for name, mode in wanted.items() if not os.access(root, mode)]
    info = os.stat(root)
    told = f"belongs to {_user(info.st_uid)}, {stat.filemode(info.st_mode)}; you are {_user(os.geteuid())}"
    if not missing:
        return ok(told)
    todo = f"sudo setfacl -R -m u:{_user(os.geteuid())}:rwX -m d:u:{_user(os.geteuid())}:rwX {_quoted(root)}"
    return fail(f"cannot be {' or '.join(missing)}: {told}", todo)


def _user(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user {uid}"


def space(place: Place) -> Answer:
    """Whether there is room for journals and reports; a full disk also loses the runs' last checkpoints."""
    info = os.statvfs(place.root)
    free, files = info.f_bavail * info.f_frsize, info.f_favail
    told = f"{free / (1 << 30):.1f} GiB free" + (f", room for {files:,} files" if info.f_files else "")
    for limit, files_limit, answer in zip(FREE_BYTES, FREE_FILES, (fail, warn), strict=True):
        if free < limit or (info.f_files and files < files_limit):
            todo = f"trainer prune EXP frees old checkpoints; du -xh {_quoted(place.root)} | sort -h | tail"
            return answer(f"only {told}", todo)
    return ok(told)


def file_system(place: Place) -> Answer:
    """Whether the kernel notices what is written there."""
    found = place.mount
    if not found.network:
        where = f"{found.kind} at {found.point}" if found.kind else "of an unknown kind"
        return ok(f"{where}: changes are noticed at once")
    text = f"{found.kind} at {found.point}: changes made by other machines wake nobody"
    return warn(text, "nothing, if a second is soon enough; else checker watch --poll 0.2, or watch where the runs are")


def watches(place: Place) -> Answer:
    """Whether the kernel will watch as many folders."""
    try:
        allowed = int((machine.PROC / "sys/fs/inotify/max_user_watches").read_text())
    except (OSError, ValueError):
        return warn("this system has no inotify", "nothing: runs are found by looking, every --poll seconds")
    (needed, all_), used = place.below, machine.notifiers()[1]
    told = f"{'' if all_ else 'more than '}{count(needed, 'folder')} to watch"
    if contract.watcher(place.root) is not None:  # its watches are among those in use
        used = max(0, used - needed)
    free = allowed - used
    told = f"{told}, {free:,} of {allowed:,} inotify watches free"
    if not all_:
        return warn(told, f"watch the folder of the runs alone; {machine.sysctl('watches', allowed)}")
    if needed > free:
        text = f"{told}: runs are looked at every --poll seconds only"
        return fail(text, machine.sysctl("watches", allowed, needed + used))
    if 2 * needed > free:
        return warn(told, machine.sysctl("watches", allowed, needed + used))
    return ok(told)


def locks(place: Place) -> Answer:
    """Whether a lock keeps a second checker away, and two writers of a status file apart."""
    with _Probe(place.root) as probe:
        try:
            fcntl.flock(probe.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            todo = "mount it with locks (nfs: without nolock; lustre: -o flock); until then start one checker only"
            return warn(f"flock does not work here ({error.strerror})", todo)
        with probe.path.open("rb") as again:
            try:
                fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                far = " (between machines only if the server passes locks on)" if place.mount.network else ""
                return ok(f"flock works{far}")
            except OSError:
                pass
    return warn("flock keeps nobody out here", "take care that only one checker watches the folder")


def exchange(place: Place) -> Answer:
    """Whether a status file can be swapped without losing what another hand wrote in the same moment."""
    with _Probe(place.root) as one, _Probe(place.root) as other:
        if contract.exchange(one.path, other.path):  # the very call that an edit makes
            return ok("two files can be exchanged in one step")
    text = "files cannot be exchanged in one step: an edit of a status file in the very moment of a kill may be lost"
    return warn(text, "nothing; a lost request is made again. Linux 3.15 and ext4, xfs, btrfs or tmpfs can do it")


def clocks(place: Place) -> Answer:
    """Whether the clock here, the folder's and the world's agree: silence is measured by them."""
    before = time.time()
    with _Probe(place.root) as probe:
        os.write(probe.fd, b"x")
        stamp = os.fstat(probe.fd).st_mtime
        after = time.time()
    skew = stamp - after if stamp > after else min(0.0, stamp - before)
    follows = machine.synchronised()
    todo = "timedatectl set-ntp true, here and on the server"
    if abs(skew) > SKEW_SECONDS:
        how = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'}"
        return warn(f"the folder's clock is {how} this machine's", todo)
    if follows is False and place.mount.network:
        return warn("this machine's clock follows no time server, and other machines write here", todo)
    told = {True: ", and follows a time server", False: "; it follows no time server", None: ""}[follows]
    return ok(f"the clock agrees with the folder's{told}")


def watched(place: Place) -> Answer:
    """Whether a checker is there."""
    answer = alive.ask(place.root)
    if answer.alive is alive.Alive.LOOKING:
        return ok(answer.text)
    last = answer.watcher
    if answer.alive is alive.Alive.SILENT and last is not None:
        todo = f"kill -CONT {last.pid}; if that does not wake it, kill -9 {last.pid} and start it again"
        return fail(answer.text, todo)
    todo = f"checker watch {_quoted(place.root)}; or for good: checker service {_quoted(place.root)}"
    if place.live:
        going = f"{count(len(place.live), 'run')} go{'es' if len(place.live) == 1 else ''} on"
        return warn(f"{answer.text}, and {going}", todo)
    return ok(answer.text, todo) if last is None or last.ended else warn(answer.text, todo)


def alarms(place: Place) -> Answer:
    """Whether people are told, and whether that gets through."""
    served = list(record.served(place.root))
    failing = [found for found in served if found.health is Health.FAILS]
    if failing:
        todo = "checker notify DIR WHERE --test shows whether a channel works; what waits is sent when it does again"
        return warn("; ".join(fares.failure(found) for found in failing), todo)
    if not served:
        return ok(f"nobody is told by message (checker watch {_quoted(place.root)} --notify WHERE would)")
    told = {Health.NEW: "nothing sent yet", Health.WORKS: "the last message got through"}
    return ok(", ".join(f"{found.channel}: {told[found.health]}" for found in served))


def configuration(place: Place) -> Answer:
    """Whether the limits are right."""
    try:
        found = limits.in_force(place.root)
    except limits.LimitsError as error:
        faults = str(error).splitlines()
        more = f" (and {count(len(faults) - 1, 'more fault')})" if len(faults) > 1 else ""
        todo = "correct it: no checker starts with it, and one that runs keeps its old limits"
        return fail(f"{faults[0]}{more}", todo)
    return ok(found.sentence() or f"no {limits.FILE}: the shipped limits")


def readable(place: Place) -> Answer:
    """Whether the files of all runs can be read, and asked to stop."""
    runs, bad = place.runs, []
    for run in runs:
        names = [name for name in (contract.METRICS, contract.STATUS) if os.path.lexists(run / name)]
        if not os.access(run, os.R_OK | os.W_OK | os.X_OK) or any(not os.access(run / name, os.R_OK) for name in names):
            bad.append(run)
    if not runs:
        if all(name.startswith(".") for name in os.listdir(place.root)):
            return ok("empty so far")
        text = (
            "no run folders yet (none with metrics.jsonl, training_status.json or experiment.json, or with a log of "
            "another program; checker formats lists these)"
        )
        return warn(text, "nothing, if runs are to come; they are looked for two levels deep")
    if not bad:
        return ok(f"{count(len(runs), 'run')}, all can be read, and asked to stop")
    todo = f"sudo setfacl -R -m u:{_user(os.geteuid())}:rwX {_quoted(bad[0])}"
    return fail(f"{len(bad)} of {count(len(runs), 'run')} cannot be read or written ({_some(place, bad)})", todo)


def owners(place: Place) -> Answer:
    """Whether every live run could be signalled, should it not answer."""
    here = [run for run in place.live if run.life is not Life.UNKNOWN]
    others = [run for run in here if _owner(run.pid) not in (os.geteuid(), None)]
    far = len(place.live) - len(here)
    elsewhere = f"; {far} more on other machines or unknown, asked by file only" if far else ""
    if others:
        whom = _user(_owner(others[0].pid) or 0)
        text = f"{count(len(others), 'live run')} of other users ({_some(place, [run.folder for run in others])})"
        todo = f"run the checker as {whom}: checker service {_quoted(place.root)} --system --user {whom}"
        return warn(f"{text}: asked by file, never signalled{elsewhere}", todo)
    mine = f"{count(len(here), 'live run')} on this machine, {'' if len(here) == 1 else 'all '}yours"
    return ok(f"{mine if here else 'no live run on this machine'}{elsewhere}")


def _owner(pid: int) -> int | None:
    try:
        return os.stat(machine.PROC / str(pid)).st_uid
    except OSError:
        return None


def _some(place: Place, runs: list[Path]) -> str:
    names = [str(run.relative_to(place.root)) if run != place.root else run.name for run in runs[:3]]
    return ", ".join(names) + (", …" if len(runs) > 3 else "")


def rehearsal(place: Place) -> Answer:
    """Whether a run could be stopped and reported: the whole route, without harm."""
    found = rehearse(place.root)
    if not found:
        return ok("a finding, a request, a signal and a report: all of it would work here")
    told = "; ".join(notice.text if notice.run == "checker" else f"{notice.run}: {notice.text}" for notice in found)
    answer = fail if found[0].severity is Severity.CRITICAL else warn
    return answer(told, "see each sentence; `checker watch` says the same when it starts")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


class _Probe:
    """A file of our own in the folder, for a moment."""

    _made = 0

    def __init__(self, folder: Path) -> None:
        _Probe._made += 1
        self.path = folder / f"{PROBE}.{os.getpid()}.{_Probe._made}.tmp"

    def __enter__(self) -> Self:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        with suppress(OSError):
            os.unlink(self.path)
