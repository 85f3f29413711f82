"""What the checker needs from the machine, whatever folder it watches."""

from __future__ import annotations

import ctypes
import locale
import os
import platform
import resource
import signal
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from checker.service.checks.check import Answer, fail, ok, warn

PROC = Path("/proc")

NEEDED = {"watchdog": (4, 0), "pydantic": (2, 7), "jinja2": (3, 1), "rich": (13, 0)}
"""Libraries and their least versions, as pyproject.toml has them; a test compares."""

PYTHON = (3, 11)

INSTANCES = 8
"""Free inotify instances: a checker takes one, an editor or a desktop a few."""

OPEN_FILES = 1024
"""Files that one checker may open: it keeps up to two open for every run in progress."""

_UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""


def python() -> Answer:
    """Whether this Python is new enough."""
    found = f"Python {platform.python_version()} at {sys.executable}"
    if sys.version_info >= PYTHON:
        return ok(found)
    return fail(f"{found} is too old", f"install Python {'.'.join(map(str, PYTHON))} or newer")


def libraries() -> Answer:
    """Whether the libraries are there, and new enough."""
    known: dict[str, str] = {}
    for name in NEEDED:
        with suppress(metadata.PackageNotFoundError):
            known[name] = metadata.version(name)
    bad = [name for name, least in NEEDED.items() if name not in known or _version(known[name]) < least]
    told = ", ".join(f"{name} {known.get(name, 'missing')}" for name in (bad or NEEDED))
    if not bad:
        return ok(told)
    wanted = " ".join(f"'{name}>={'.'.join(map(str, NEEDED[name]))}'" for name in bad)
    return fail(f"missing or too old: {told}", f"{sys.executable} -m pip install {wanted}")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split(".")[:2])


def terminal() -> Answer:
    """Whether what the checker says can be shown."""
    encoding = (sys.stdout.encoding or locale.getpreferredencoding()).lower().replace("-", "")
    if encoding == "utf8":
        return ok("UTF-8")
    todo = "export PYTHONUTF8=1"
    return warn(f"the output is {encoding}: arrows, dashes and names of runs may come out as garbage", todo)


def processes(proc: Path = PROC) -> Answer:
    """Whether it can be told if a run's process lives."""
    if not (proc / "self" / "stat").exists():
        todo = "mount /proc; without it no crash and no hang is noticed, and no run is ever signalled"
        return warn("there is no process table", todo)
    hidden = [option for option in _options(proc) if option.startswith("hidepid=") and option[8:] not in ("0", "off")]
    if hidden and os.geteuid() != 0:
        todo = "run the checker as the user of the runs; other users' runs are watched, but a crash is not told"
        return warn(f"/proc shows your own processes only ({hidden[0]})", todo)
    return ok("every process can be seen")


def _options(proc: Path) -> list[str]:
    with suppress(OSError):
        for line in (proc / "mounts").read_text().splitlines():
            words = line.split()
            if len(words) > 3 and words[1] == "/proc":
                return words[3].split(",")
    return []


def handles() -> Answer:
    """Whether a process can be signalled without a chance of hitting another one."""
    if not (hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")):
        return warn("this Python has no pidfd", "use a Python that was built for Linux 5.3 or newer")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        text = f"no pidfd ({error.strerror}): a pid that is reused in the very moment of a kill is not noticed"
        return warn(text, "use Linux 5.3 or newer, and a sandbox that allows pidfd_open")
    return ok("processes are signalled by pidfd: never one that has taken over the number of another")


def open_files() -> Answer:
    """Whether enough files can be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES:
        return ok(f"{'any number' if soft == resource.RLIM_INFINITY else f'{soft:,}'} files may be open at once")
    raised = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    return warn(f"only {soft:,} files may be open at once, about two per run in progress", f"ulimit -n {raised}")


def instances(proc: Path = PROC) -> Answer:
    """Whether this user may have one more file notifier."""
    try:
        allowed = int((proc / "sys/fs/inotify/max_user_instances").read_text())
    except (OSError, ValueError):
        return warn("this system has no inotify", "nothing: runs are found by looking, every --poll seconds")
    used = notifiers(proc)[0]
    told = f"{used:,} of {allowed:,} inotify instances in use"
    if allowed - used >= INSTANCES:
        return ok(told)
    return warn(f"{told}: without one, runs are looked at every --poll seconds only", sysctl("instances", allowed))


def sysctl(what: str, allowed: int, needed: int = 0) -> str:
    """How a limit of inotify is raised, at once and for good."""
    least = 512 if what == "instances" else 524_288
    value = max(2 * allowed, 2 * needed, least)
    line = f"fs.inotify.max_user_{what}={value}"
    return f"sudo sysctl {line} && echo {line} | sudo tee /etc/sysctl.d/60-inotify-{what}.conf"


def notifiers(proc: Path = PROC) -> tuple[int, int]:
    """The inotify instances and watches of this user's processes, as far as they can be seen."""
    instances = watches = 0
    for folder in proc.glob("[0-9]*"):
        try:
            if os.stat(folder).st_uid != os.geteuid():
                continue
            entries = os.listdir(folder / "fd")
        except OSError:
            continue
        for entry in entries:
            with suppress(OSError):
                if os.readlink(folder / "fd" / entry) in ("anon_inode:inotify", "inotify"):
                    instances += 1
                    watches += (folder / "fdinfo" / entry).read_bytes().count(b"inotify wd:")
    return instances, watches


def mask() -> Answer:
    """Whether others can read what the checker writes."""
    found = os.umask(0o022)
    os.umask(found)
    if found & 0o400 or found & 0o200:
        return fail(f"umask {found:04o}: the checker could not read its own reports", "umask 022")
    return ok(f"umask {found:04o}: reports are {'for everybody' if not found & 0o004 else 'not for everybody'} to read")


def synchronised() -> bool | None:
    """Whether the kernel's clock follows a time server; None when it does not tell."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError, TypeError):
        return None
    # struct timex: modes, offset, freq, maxerror, esterror, status, …; all zero asks and changes nothing.
    state = (ctypes.c_long * 64)()
    if adjtimex(state) < 0:
        return None
    return not state[5] & _UNSYNCHRONISED
