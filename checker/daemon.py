"""The only loop: wake, look, judge, act, report. It holds the parts together and decides nothing itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import contract
from checker import journal, leftovers
from checker.events import Life
from checker.finding import Severity
from checker.naps import Naps
from checker.run import Run
from checker.terms import Mode, Moment, Notice
from checker.watch import DEPTH, Alarm, folders, is_run, unreachable

try:
    import fcntl
except ImportError:  # not a POSIX system: two checkers on one root are then the user's own affair
    fcntl = None  # type: ignore[assignment]


BEAT = 1.0
"""Seconds between two looks at the clock for a run in progress."""

CHASE = 0.1
"""As above while a stop has been asked for: whether it has happened should be known soon."""

REPORT_SECONDS = 2.0
"""Progress alone is reported no more often than this; whatever happens is reported at once."""

RETRY = (5.0, 300.0)
"""First and longest pause before a run that made the checker stumble is looked at again, from its first byte."""


class Held(Exception):
    """Another checker watches this root already."""


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Makes sure that one checker acts on a root; the kernel lets go of the lock when its holder dies.

    Raises:
        Held: another one has it; the message says who.
    """
    path = root / contract.WATCHER
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Held(f"{root} is watched already by {_holder(fd)}") from None
            except OSError:  # a file system without locks: better one unguarded checker than none
                pass
        os.ftruncate(fd, 0)
        os.pwrite(fd, contract.encode({"pid": os.getpid(), "host": socket.gethostname(), "started": contract.now()}), 0)
        yield
    finally:
        os.close(fd)


def _holder(fd: int) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(os.pread(fd, 4096, 0))
        return f"process {int(found['pid'])} on {found['host']}, since {found['started']}"
    return "another checker"


@dataclass
class _Fault:
    """A run that made the checker stumble."""

    text: str
    pause: float
    until: float


class Daemon:
    """Watches every run folder below `root`."""

    def __init__(
        self,
        root: Path,
        *,
        mode: Mode = Mode.ACT,
        limits: Mapping[str, Any] | None = None,
        poll: float = 1.0,
        on_change: Callable[[Run], None] = lambda _: None,
        on_changes: Callable[[], None] = lambda: None,
        tell: Callable[[Iterable[Notice]], object] = lambda _: None,
    ) -> None:
        self.root, self.mode, self.limits = root, mode, limits
        self.runs: dict[Path, Run] = {}
        self.alarm = Alarm(root, poll)
        self.stopping = False
        self.tell = tell
        """Shows notices to whoever watches."""
        self.after_round: Callable[[], None] = lambda: None
        self._on_change, self._on_changes = on_change, on_changes
        self._faults: dict[Path, _Fault] = {}
        self._cleared: set[Path] = set()
        """Folders that have been looked through for what a killed checker left."""
        self._asleep: set[Path] = set()
        """Finished runs whose report is newer than their files; they are not read before something changes."""
        self._refused: dict[Path, str] = {}
        """Folders that cannot be looked into, and have been told of."""
        self._others: set[Path] = set()
        """Runs that have a checker of their own; they are taken in when it is gone."""
        self._reported: dict[Path, float] = {}
        self._report_faults: dict[Path, str] = {}
        self._summary_due = float("inf")
        self._next_beat = 0.0
        self._naps, self._stood = Naps(), Naps()

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:  # noqa: ARG002  # a signal handler's shape
        """Asks the loop to end; safe in a signal handler."""
        self.stopping = True
        self.alarm.ring()

    def catch_signals(self) -> None:
        """From now on SIGTERM and SIGINT end the loop in an orderly way."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self.stop)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Runs until stopped, or until `until` says so after a full round."""
        leftovers.clear(self.root)
        self.alarm.start()
        if self.alarm.trouble:
            self.tell([Notice("checker", self.alarm.trouble, Severity.WARNING)])
        try:
            while not self.stopping:
                self.round()
                self.after_round()
                if until():
                    break
        finally:
            self.alarm.stop()
            self.close()

    def close(self) -> None:
        for run in self.runs.values():
            run.close()

    def round(self, *, wait: bool = True) -> None:
        """One pass: whoever may have changed, and on the beat everybody who is still running."""
        woken = self.alarm.wait(self._patience() if wait else 0.0)
        moment = Moment.now()
        used = time.process_time()
        slept, stood = self._naps.look(moment.wall, used), self._stood.look(moment.mono, used)
        moment = replace(moment, slept=slept, stood=stood)
        beat = moment.mono >= self._next_beat
        if beat:
            self._next_beat = moment.mono + BEAT
        self._tell_refused()
        for folder in (*woken, *(self._others if beat else ())):
            self._welcome(folder)
        for folder, run in list(self.runs.items()):
            if folder in woken or run.behind or run.chasing or (beat and not (run.over and self._settled(run))):
                self._turn(folder, run, moment, beat=beat or folder not in self._reported)
        self._report(moment)

    @property
    def quiet(self) -> bool:
        """Every run is over, as far as can be told, and no stop is pending."""
        running = any(not run.over and run.life in (Life.ALIVE, Life.STOPPED) for run in self.runs.values())
        busy = any(run.chasing or run.behind or run.urgent or run.settling for run in self.runs.values())
        return not running and not busy

    def _settled(self, run: Run) -> bool:
        """Nothing about a finished run depends on the time any more."""
        final = run.state is not None and run.state.final
        return final and run.folder in self._reported and not run.urgent and not run.settling

    def _patience(self) -> float:
        """How long the next wait may last."""
        now = time.monotonic()
        if any(run.behind for run in self.runs.values()):
            return 0.0
        wait = self._next_beat - now
        if any(run.chasing for run in self.runs.values()):
            wait = min(wait, CHASE)
        return max(0.0, wait)

    # ------------------------------------------------------------------------------------------------ who is there

    def _tell_refused(self) -> None:
        """Says once of each folder that it cannot be looked into."""
        for folder, why in self.alarm.refused.items():
            if self._refused.get(folder) != why:
                told = f"its folder cannot be looked into ({why}); it is not watched before it can"
                self.tell([Notice(self._name(folder), told, Severity.WARNING)])
        self._refused = dict(self.alarm.refused)

    def _welcome(self, folder: Path) -> None:
        """Takes a folder in, wakes it, or lets it go."""
        if folder in self.runs:
            if not is_run(folder) and not unreachable(folder):
                self.runs.pop(folder).close()
                self._faults.pop(folder, None)
                self._reported.pop(folder, None)
                self.tell([Notice(self._name(folder), "its folder is gone; no longer watched", Severity.WARNING)])
            return
        if not self._ours(folder):
            self._others.discard(folder)
            return
        if folder not in self._cleared:
            self._cleared.add(folder)
            leftovers.clear(folder)
        if folder not in self._asleep and reported(folder):
            self._asleep.add(folder)
            self._summary_due = min(self._summary_due, time.monotonic())  # a checker may have been killed before it
            return
        self._asleep.discard(folder)
        if self._another_watches(folder):
            return
        fault = self._faults.get(folder)
        if fault is None or time.monotonic() >= fault.until:
            self._admit(folder)

    def _another_watches(self, folder: Path) -> bool:
        """Whether the run has a checker of its own: two would find, tell and ask everything twice."""
        holder = None if folder == self.root else contract.watcher(folder)
        if holder is None:
            self._others.discard(folder)
        elif folder not in self._others:
            self._others.add(folder)
            self.tell([Notice(self._name(folder), f"left to a checker of its own ({holder})", Severity.INFO)])
        return holder is not None

    def _admit(self, folder: Path) -> None:
        with self._fenced(partial(self._stumbled, folder)):
            self.runs[folder] = Run(folder, self._name(folder), self.mode, self.limits)

    def _ours(self, folder: Path) -> bool:
        """Whether `folder` is a run folder where run folders are looked for, and not something inside one."""
        try:
            parts = folder.relative_to(self.root).parts
        except ValueError:
            return False
        if len(parts) > DEPTH or any(part.startswith(".") for part in parts) or not is_run(folder):
            return False
        above = [self.root.joinpath(*parts[:depth]) for depth in range(len(parts))]
        return not any(is_run(place) for place in above)

    def _name(self, folder: Path) -> str:
        return folder.name if folder == self.root else str(folder.relative_to(self.root))

    # ------------------------------------------------------------------------------------------------- one run's turn

    def _turn(self, folder: Path, run: Run, moment: Moment, *, beat: bool) -> None:
        with self._fenced(partial(self._stumbled, folder)):
            notices = run.turn(moment, beat=beat)
            if notices:
                self.tell(notices)
            if not run.behind:
                self._faults.pop(folder, None)

    @contextmanager
    def _fenced(self, stumbled: Callable[[str], None]) -> Iterator[None]:
        """The one place where any error is caught: a folder that cannot be judged must not cost the others theirs."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            stumbled(f"{type(error).__name__}: {error}")

    def _stumbled(self, folder: Path, text: str) -> None:
        run = self.runs.pop(folder, None)
        known = self._faults.get(folder)
        pause = min(known.pause * 2, RETRY[1]) if known else RETRY[0]
        self._faults[folder] = _Fault(text, pause, time.monotonic() + pause)
        if known is None or known.text != text:
            told = f"cannot be judged ({text}); trying again every {RETRY[0]:g} to {RETRY[1]:g} s"
            self.tell([Notice(self._name(folder), told, Severity.CRITICAL)])
            if run is not None:
                with suppress(OSError):
                    run.journal.write("trouble", {"text": text})
        if run is not None:
            run.close()

    def _report(self, moment: Moment) -> None:
        """Lets reports be written; after everybody's turn, so that a slow one delays nobody's kill."""
        for folder in [folder for folder, fault in self._faults.items() if folder not in self.runs]:
            if moment.mono >= self._faults[folder].until and is_run(folder):
                self._admit(folder)
        for folder, run in self.runs.items():
            last = self._reported.get(folder)
            due = last is None or (run.progressed and moment.mono - last >= REPORT_SECONDS)
            if run.behind or not (run.urgent or due):
                continue
            soon = moment.mono if run.urgent else moment.mono + REPORT_SECONDS
            self._summary_due = min(self._summary_due, soon)
            run.urgent = run.progressed = False
            self._reported[folder] = moment.mono
            self._try(folder, partial(self._on_change, run))
        if moment.mono >= self._summary_due:
            self._summary_due = float("inf")
            self._try(self.root, self._on_changes)

    def _try(self, folder: Path, report: Callable[[], None]) -> None:
        with self._fenced(partial(self._unreported, folder)):
            report()

    def _unreported(self, folder: Path, fault: str) -> None:
        text = f"its report cannot be written ({fault})"
        if self._report_faults.get(folder) != text:
            self._report_faults[folder] = text
            self.tell([Notice(self._name(folder), text, Severity.WARNING)])


def reported(folder: Path) -> bool:
    """Whether a finished run has been reported since its files last changed, and nothing about its end is open."""
    try:
        written = os.stat(folder / contract.DIAGNOSIS).st_mtime_ns
        status: dict[str, Any] = contract.StatusFile(folder).read() or {}
    except (OSError, contract.Unreadable):
        return False
    if not status or not contract.run_state(status).final:
        return False
    for name in (contract.METRICS, contract.STATUS, contract.EXPERIMENT):
        with suppress(OSError):
            if os.stat(folder / name).st_mtime_ns > written:
                return False
    with suppress(OSError):  # a page may be newer than the last status and yet be about the one before
        if os.stat(folder / contract.FINDINGS).st_mtime_ns >= written:
            return False
    return journal.settled(folder, status)


def judge_once(
    root: Path, *, mode: Mode, on_change: Callable[[Run], None], limits: Mapping[str, Any] | None = None
) -> tuple[list[Run], list[Notice]]:
    """Judges every run below `root` as it is now and returns; nothing is stopped."""
    runs, notices = [], []
    for folder in folders(root):
        name = folder.name if folder == root else str(folder.relative_to(root))
        try:
            run = Run(folder, name, mode, limits)
            notices += run.turn(Moment.now())
            while run.behind:
                notices += run.turn(Moment.now())
            on_change(run)
            run.close()
            runs.append(run)
        except (OSError, ValueError) as error:
            notices.append(Notice(name, f"cannot be judged: {error}", Severity.CRITICAL))
    return runs, notices
