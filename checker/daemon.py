"""The only loop: wake, look, judge, act, report. It holds the parts together and decides nothing itself."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import contract
from checker import journal, leftovers, process
from checker.agenda import Agenda
from checker.census import Census
from checker.events import Life
from checker.feed.feed import Feed
from checker.finding import Severity
from checker.formats.format import PLAIN, Reading
from checker.naps import Naps
from checker.places import DEPTH, FOLDER, ROWS, folders, gone, is_run
from checker.reports import Reports
from checker.run import BEAT, Run
from checker.sweeps import Sweeps
from checker.terms import Mode, Moment, Notice
from checker.watch import Alarm

SLICE = 0.02
"""Seconds of each round for what can wait (long logs, reports), so that new rows of others never wait long."""

RETRY = (5.0, 300.0)
"""First and longest pause before a run that made the checker stumble is looked at again, from its first byte."""

FAREWELL_SECONDS = 0.5
"""From SIGTERM to the last report, the end of the turn that it came in included: all of leaving may take a second."""


@dataclass
class _Fault:
    """A run that made the checker stumble."""

    text: str
    pause: float
    until: float


class Daemon:
    """Watches every run folder below `root`.

    Args:
        root: where run folders are looked for.
        mode: how far it may go.
        limits: limits other than a rule's own, by rule.
        poll: seconds between two looks at a folder whose changes are not announced.
        on_change: writes the reports of one run.
        on_changes: writes what is about all of them, a bit each time that its answer is advanced.
        tell: shows notices to whoever watches.
    """

    def __init__(
        self,
        root: Path,
        *,
        mode: Mode = Mode.ACT,
        limits: Mapping[str, Any] | None = None,
        poll: float = 1.0,
        on_change: Callable[[Run], None] = lambda _: None,
        on_changes: Callable[[], Iterator[None]] = lambda: iter(()),
        tell: Callable[[Iterable[Notice]], object] = lambda _: None,
    ) -> None:
        self.root, self.mode, self.limits = root, mode, limits
        self.logs = PLAIN
        """How logs are to be understood where they do not say it themselves."""
        self.runs: dict[Path, Run] = {}
        self.alarm = Alarm(root, poll)
        self.stopping = False
        self.tell = tell
        self.feed: Feed | None = None
        """Tells whoever waits outside."""
        self.after_round: Callable[[], None] = lambda: None
        self.after_turn: Callable[[Run | None], None] = lambda _: None
        """Called after each piece of a round, with the run whose turn it was: a long round is no hung one."""
        self.round_seconds = 0.0
        """How long the last round took, without its wait."""
        self.signalled = 0
        """The signal that ended the loop."""
        self.sweeps = Sweeps(
            root,
            mode,
            tell=lambda notices: self.tell(notices),  # noqa: PLW0108 - it may be another one by then
            feed=lambda: self.feed,
            runs=self.runs.values,
            stop=self._give_up,
        )
        self.reports = Reports(
            self._with_siblings(on_change), lambda: chain(self.sweeps.steps(), on_changes()), self._while_reporting
        )
        self._agenda = Agenda[Run]()
        self._census = Census[Run]()
        self._arrivals: dict[Path, None] = {}
        """Folders that have come and were not looked at yet."""
        self._behind: deque[Run] = deque()
        """Runs of which more can be read than one turn takes."""
        self._faults: dict[Path, _Fault] = {}
        self._cleared: set[Path] = set()
        """Folders that have been looked through for what a killed checker left."""
        self._asleep: set[Path] = set()
        """Finished runs whose report is newer than their files; they are not read before something changes."""
        self._refused: dict[Path, str] = {}
        """Folders that cannot be looked into, and have been told of."""
        self._others: set[Path] = set()
        """Runs that have a checker of their own; they are taken in when it is gone."""
        self._report_faults: dict[Path, str] = {}
        self._stopped_at = 0.0
        self._next_beat = 0.0
        self._naps, self._stood = Naps(), Naps()

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:  # noqa: ARG002  # a signal handler's shape
        """Asks the loop to end; safe in a signal handler."""
        self.stopping, self.signalled, self._stopped_at = True, signum, time.monotonic()
        self.alarm.ring()

    def catch_signals(self) -> None:
        """From now on SIGTERM and SIGINT end the loop in an orderly way."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self.stop)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Runs until stopped, or until `until` says so after a full round."""
        leftovers.clear(self.root)
        self.alarm.start()
        try:
            while not self.stopping:
                self.round()
                self.after_round()
                if until():
                    break
        finally:
            try:
                self._farewell()
            finally:
                self.alarm.stop()
                self.close()

    def reload(self, limits: Mapping[str, Any], reading: Reading = PLAIN) -> int:
        """Judges by other limits from now on, runs that go on from their first row; returns how many those are."""
        self.limits, self.logs = limits, reading
        for run in self.runs.values():
            run.judge_by(limits, reading)
            self._agenda.plan(run, 0.0)
        return sum(not run.over for run in self.runs.values())

    def close(self) -> None:
        for run in self.runs.values():
            run.close()
        if self.feed is not None:
            self.feed.close()

    def round(self, *, wait: bool = True) -> None:
        """One pass: whoever may have changed, then whose time has come, then a slice of what can wait."""
        woken = self.alarm.wait(self._patience() if wait else 0.0)
        moment = self._moment()
        self._tell_troubles()
        for folder, touched in woken.items():
            if self.stopping:
                return
            self._wake(folder, touched, moment)
        if moment.mono >= self._next_beat:
            self._next_beat = moment.mono + BEAT
            self._beat(moment)
        end = time.monotonic() + 5 * SLICE
        for run in self._agenda.due(moment.mono):
            self._turn(run, moment, beat=True)
            if self.stopping or time.monotonic() > end:
                break
        if self.stopping:
            return
        self._catch_up(moment)
        if self.stopping:
            return
        self.reports.work(SLICE)
        self.round_seconds = time.monotonic() - moment.mono

    def _moment(self) -> Moment:
        """The time; after a nap of the machine every run is due, for it must be known which silence it fell into."""
        slept = self._naps.total
        moment = Moment.now()
        used = time.process_time()
        naps, stood = self._naps.look(moment.wall, used), self._stood.look(moment.mono, used)
        moment = replace(moment, slept=naps, stood=stood)
        if moment.slept != slept:
            for run in self.runs.values():
                self._agenda.plan(run, moment.mono)
        return moment

    @property
    def quiet(self) -> bool:
        """Every run is over, as far as can be told, and no stop is pending."""
        running = any(not run.over and run.life in (Life.ALIVE, Life.STOPPED) for run in self.runs.values())
        busy = any(run.chasing or run.behind or run.urgent or run.settling for run in self.runs.values())
        return not (running or busy or self._arrivals or self.reports.urgent)

    @property
    def reading(self) -> bool:
        """There are folders that were not looked at yet, or logs of which more is to be read."""
        return bool(self._arrivals or self._behind)

    @property
    def apart(self) -> dict[str, int]:
        """How many run folders are not among `runs`, by reason; may be asked by another thread."""
        faulty = sum(folder not in self.runs for folder in list(self._faults))
        return {"reported": len(self._asleep), "another_checker": len(self._others), "cannot_be_judged": faulty}

    def _patience(self) -> float:
        """How long the next wait may last."""
        if self._behind or self._arrivals or self.reports.urgent:
            return 0.0
        now = time.monotonic()
        return max(0.0, min(self._next_beat, self._agenda.next, self.reports.next) - now)

    def _beat(self, moment: Moment) -> None:
        """What has to be looked at now and then: who lives, and what could not be done before."""
        for run in self._census.changed():
            self._turn(run, moment, beat=True)
        if self.feed is not None and (troubles := self.feed.keep()):
            self.tell([Notice("checker", trouble, Severity.WARNING) for trouble in troubles])
        self._arrivals.update(dict.fromkeys(self._others))
        for folder, fault in self._faults.items():
            if moment.mono >= fault.until and folder not in self.runs:
                self._arrivals[folder] = None

    def _catch_up(self, moment: Moment) -> None:
        """Takes in folders and reads long logs, for a while; the others' new rows come first."""
        end = time.monotonic() + SLICE
        while (self._arrivals or self._behind) and not self.stopping:
            if self._arrivals:
                folder = next(iter(self._arrivals))
                del self._arrivals[folder]
                self._welcome(folder, moment)
            if self._behind:
                run = self._behind.popleft()
                if self.runs.get(run.folder) is run:
                    self._turn(run, moment, beat=True)
            if time.monotonic() >= end:
                return

    # ------------------------------------------------------------------------------------------------ who is there

    def _tell_troubles(self) -> None:
        """Says what keeps us from watching as we should, each thing once."""
        for trouble in self.alarm.troubles():
            self.tell([Notice("checker", trouble, Severity.WARNING)])
        for folder, why in self.alarm.doubts():
            self.tell([Notice(self._name(folder), f"not watched: {why}", Severity.WARNING)])
        if self.alarm.refused or self._refused:
            self._tell_refused()

    def _tell_refused(self) -> None:
        """Says once of each folder that it cannot be looked into."""
        for folder, why in self.alarm.refused.items():
            if self._refused.get(folder) != why:
                told = f"its folder cannot be looked into ({why}); it is not watched before it can"
                self.tell([Notice(self._name(folder), told, Severity.WARNING)])
        self._refused = dict(self.alarm.refused)

    def _wake(self, folder: Path, touched: int, moment: Moment) -> None:
        """Something has changed in a folder: a quick look at a run that is known, the rest is for later."""
        run = self.runs.get(folder)
        if run is None:
            self._arrivals[folder] = None
        elif touched & FOLDER and gone(folder):
            self._let_go(run)
        elif run.behind:
            return
        elif touched == ROWS and not run.over:
            self._turn(run, moment)
        else:
            self._turn(run, moment, beat=False)

    def _welcome(self, folder: Path, moment: Moment) -> None:
        """Takes a folder in, if it is one for us and not asleep."""
        if folder in self.runs:
            return
        if not self._ours(folder):
            self._others.discard(folder)
            self._faults.pop(folder, None)
            return
        if folder not in self._cleared:
            self._cleared.add(folder)
            leftovers.clear(folder)
        self.sweeps.arrived(folder)
        if folder not in self._asleep and reported(folder, self.feed):
            self._asleep.add(folder)
            self.alarm.rest(folder)
            self.reports.list_is_due()  # a checker may have been killed before it
            return
        self._asleep.discard(folder)
        self.alarm.rouse(folder)
        if self._another_watches(folder):
            return
        fault = self._faults.get(folder)
        if fault is None or moment.mono >= fault.until:
            with self._fenced(partial(self._stumbled, folder)):
                run = self.runs[folder] = _opened(
                    folder, self._name(folder), self.mode, self.limits, self.logs, self.feed, self._census.life_of
                )
                self._turn(run, moment, beat=True)

    def _another_watches(self, folder: Path) -> bool:
        """Whether the run has a checker of its own: two would find, tell and ask everything twice."""
        holder = None if folder == self.root else contract.watcher(folder)
        if holder is None:
            self._others.discard(folder)
        elif folder not in self._others:
            self._others.add(folder)
            self.tell([Notice(self._name(folder), f"left to a checker of its own ({holder})", Severity.INFO)])
        return holder is not None

    def _let_go(self, run: Run) -> None:
        run.close()
        self._drop(run)
        self._faults.pop(run.folder, None)
        why = "it is no run folder any more" if os.path.isdir(run.folder) else "its folder is gone"
        self.tell([Notice(run.name, f"{why}; no longer watched", Severity.WARNING)])

    def _drop(self, run: Run) -> None:
        """Forgets a run."""
        self.runs.pop(run.folder, None)
        self.sweeps.gone(run.folder)
        self.reports.forget(run)
        self._agenda.drop(run)
        self._census.note(run, None, run.life)

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

    def _turn(self, run: Run, moment: Moment, *, beat: bool | None = None) -> None:
        """A run's turn: everything at a `beat`, everything but the clock without one, only its rows when that is None.

        Args:
            run: whose turn it is.
            moment: the time.
            beat: whether to tell the judge the time.
        """
        with self._fenced(partial(self._stumbled, run.folder)):
            notices = run.glance(moment) if beat is None else run.turn(moment, beat=beat)
            if notices:
                self.tell(notices)
            self.after_turn(run)
            if run.behind:
                self._behind.append(run)
            else:
                self._plan(run, moment, beat=beat)
            if beat or run.urgent or run.progressed:
                self.reports.note(run)

    def _give_up(self, run: Run, kill: contract.Kill, anew: bool) -> None:
        """Wishes to stop a run for what happened to its siblings; its next turn is due at once."""
        if run.give_up(kill, anew=anew):
            self._agenda.plan(run, 0.0)

    def _with_siblings(self, write: Callable[[Run], None]) -> Callable[[Run], None]:
        """`write`, and what the news about a run means for the others."""

        def both(run: Run) -> None:
            self.sweeps.reported(run)
            write(run)

        return both

    def _plan(self, run: Run, moment: Moment, *, beat: bool | None) -> None:
        """Sees to it that the run has its next turn in time."""
        another = beat is not None and self._census.note(run, run.status.process, run.life)
        if run.foreign:
            self.alarm.attend(run.folder)
        if beat:
            self._agenda.plan(run, moment.mono + run.rest(moment))
        elif run.restless or another or not self._agenda.planned(run):  # else what is planned is early enough
            self._agenda.hasten(run, moment.mono + min(BEAT, run.rest(moment)))
        if beat is not None:
            self._faults.pop(run.folder, None)

    @contextmanager
    def _fenced(self, stumbled: Callable[[str], None]) -> Iterator[None]:
        """The one place where any error is caught: a folder that cannot be judged must not cost the others theirs."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            stumbled(f"{type(error).__name__}: {error}")

    def _stumbled(self, folder: Path, text: str) -> None:
        run = self.runs.get(folder)
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
            self._drop(run)
            run.close()

    def _farewell(self) -> None:
        """Writes the reports that are due because something happened, as far as `FAREWELL_SECONDS` go.

        What is not written is written by the next checker: all of it follows from the journals.
        """
        left = (self._stopped_at or time.monotonic()) + FAREWELL_SECONDS - time.monotonic()
        if left > 0:
            self.reports.work(left)

    @contextmanager
    def _while_reporting(self, run: Run | None) -> Iterator[None]:
        with self._fenced(partial(self._unreported, run)):
            yield
        self.after_turn(None)

    def _unreported(self, run: Run | None, fault: str) -> None:
        """Says once that a report, or the list of all runs, could not be written."""
        folder = self.root if run is None else run.folder
        text = f"its report cannot be written ({fault})"
        if self._report_faults.get(folder) != text:
            self._report_faults[folder] = text
            self.tell([Notice(self._name(folder), text, Severity.WARNING)])


def _opened(
    folder: Path,
    name: str,
    mode: Mode,
    limits: Mapping[str, Any] | None,
    reading: Reading,
    feed: Feed | None,
    life_of: Callable[[contract.Process | None], Life],
) -> Run:
    """A run under watch, of which the feed knows everything that is journaled so far and hears the rest."""
    hear = (lambda _: None) if feed is None else feed.listen(folder, name)
    return Run(folder, name, mode, limits, reading=reading, hear=hear, life_of=life_of)


def reported(folder: Path, feed: Feed | None = None) -> bool:
    """Whether everything has been said about a finished run: journaled, told to the feed, and reported.

    A report that is newer than all files is not enough: it may have been written from an older look at them, by a
    checker that was killed before it had seen the end.
    """
    try:
        report = os.stat(folder / contract.DIAGNOSIS)
        status: dict[str, Any] = contract.StatusFile(folder).read() or {}
    except (OSError, contract.Unreadable):
        return False
    if not report.st_size or not status or not contract.run_state(status).final:
        return False
    for name in (contract.METRICS, contract.STATUS, contract.EXPERIMENT, contract.FINDINGS):
        with suppress(OSError):
            if os.stat(folder / name).st_mtime_ns > report.st_mtime_ns:
                return False
    last = journal.latest(folder)
    return journal.settled(last, status) and (feed is None or feed.knows(folder, last))


def judge_once(
    root: Path,
    *,
    mode: Mode,
    on_change: Callable[[Run], None],
    limits: Mapping[str, Any] | None = None,
    reading: Reading = PLAIN,
    feed: Feed | None = None,
) -> tuple[list[Run], list[Notice]]:
    """Judges every run below `root` as it is now and returns; nothing is stopped."""
    runs, notices = list[Run](), list[Notice]()

    def named(folder: Path) -> str:
        return folder.name if folder == root else str(folder.relative_to(root))

    def doubt(folder: Path, why: str) -> None:
        notices.append(Notice(named(folder), f"not judged: {why}", Severity.WARNING))

    for folder in folders(root, doubt=doubt):
        name = named(folder)
        try:
            run = _opened(folder, name, mode, limits, reading, feed, process.look)
            notices += run.turn(Moment.now())
            while run.behind:
                notices += run.turn(Moment.now())
            on_change(run)
            run.close()
            runs.append(run)
        except (OSError, ValueError) as error:
            notices.append(Notice(name, f"cannot be judged: {error}", Severity.CRITICAL))
    return runs, notices
