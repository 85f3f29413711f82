"""Waiting for one run: until something is wrong with it, or it is over.

The status file and the process say whether it is over; the run's journal says what is wrong, and a checker's word is
waited for a little, since it knows why. So an end is seen even when nobody watches, or the checker was away meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import contract
from checker import process
from checker.events import Life
from checker.feed import lines
from checker.feed.account import Account, attempt_of
from checker.feed.bell import Bell, Deadline
from checker.finding import Action
from checker.journal import Entry
from checker.mask import plain
from checker.places import DEPTH, is_run
from checker.status import Status, whole

POLL = 2.0
"""Seconds between two slow looks. Whatever a checker tells wakes us at once; this is for the end of a run that nobody
watches, and for file systems without notifications. It costs a few file accesses."""

SOON = 0.2
"""As above once the run seems to be over."""

APPEAR = 60.0
"""Seconds for a run folder to appear. A trainer that was started in the background may load torch and its data first;
a mistyped name should not block for ever."""

GONE = 2.0
"""Seconds after which a vanished process counts as the end where nobody watches: as long as the checker takes."""

JUDGED = 10.0
"""Seconds that a checker who watches gets to journal an end. It takes one, or two after a crash."""

SETTLE = 1.5
"""Seconds for what follows an alert or an end within moments: the request to stop, and the report."""


class Event(StrEnum):
    ALERT = "alert"
    END = "end"
    TIMEOUT = "timeout"


class Never(ValueError):
    """There is no such run, and none has appeared."""


def appeared(named: Path, beside: Path, timeout: float | None, warn: Callable[[str], None]) -> Path | None:
    """The run folder that `named` is, as a path or as an id in the folder `beside`, once it is there.

    Returns:
        None when `timeout` seconds have passed before.

    Raises:
        Never: it has not appeared, or cannot.
    """
    places = [named] if named.is_absolute() or len(named.parts) != 1 else [named, beside / named]
    if not any(place.parent.is_dir() for place in places):
        raise Never(f"{named}: no such run, and no folder {named.parent} for it to appear in")
    asked, patience, told = Deadline(timeout), Deadline(APPEAR), False
    while True:
        for place in places:
            if is_run(place):
                return place
        if asked.passed:
            return None
        if patience.passed:
            raise Never(f"{named}: no such run, and none has appeared within {APPEAR:g} s")
        if not told:
            told = True
            warn(f"{named} is not there yet; waiting up to {APPEAR:g} s for it to appear")
        time.sleep(asked.at_most(SOON))


@dataclass
class _Sight:
    """The run at the present look."""

    state: str | None
    """As the status file says; `crashed` once the process is gone; None without a status file."""
    over: bool
    end: Entry | None = None
    """This end as a checker has journaled it."""


class Wait:
    """One call of `checker wait`."""

    def __init__(
        self,
        folder: Path,
        *,
        since: int | None = None,
        warn: Callable[[str], None] = lambda _: None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.folder, self._warn, self._given_up = folder, warn, given_up
        self._above = (folder.absolute(), *folder.absolute().parents[:DEPTH])
        self._status = Status(folder)
        self._account = Account(folder / contract.FINDINGS, since)
        self._account.check()
        self._root: Path | None = None
        """The folder whose checker watches this run."""
        self._warned = False
        self._over_since: float | None = None

    def until(self, *, end_only: bool, timeout: float | None) -> dict[str, Any]:
        """Blocks until there is something to tell, and tells it."""
        deadline, bell = Deadline(timeout), Bell(self.folder / contract.FINDINGS)
        try:
            while True:
                bell = self._listen(bell)
                sight = self._look()
                event = self._event(sight, end_only=end_only)
                if event is not None or deadline.passed or self._given_up():
                    break
                self._say_who_watches(sight)
                bell.wait(deadline.at_most(SOON if sight.over else POLL))
        finally:
            bell.close()
        if event is not None:
            self._settle(event)
        sight = self._look()
        return self._told(self._event(sight, end_only=end_only) or event or Event.TIMEOUT, sight)

    # ----------------------------------------------------------------------------------------------------- looking

    def _listen(self, bell: Bell) -> Bell:
        """Finds out who watches, and listens to its feed: it grows only when something has happened."""
        self._root = next((place for place in self._above if contract.watcher(place)), None)
        path = self._root / contract.EVENTS if self._root is not None else self.folder / contract.FINDINGS
        if path != bell.path:
            bell.close()
            bell = Bell(path)
        bell.listen()
        return bell

    def _say_who_watches(self, sight: _Sight) -> None:
        if self._root is None and not sight.over and not self._warned:
            self._warn("nobody watches this run (checker watch DIR): its end will be seen, and nothing that goes wrong")
        self._warned = self._root is None

    def _look(self) -> _Sight:
        self._status.refresh()
        state = self._status.state
        gone = state is contract.State.RUNNING and process.look(process.parse(self._status.document)) is Life.GONE
        attempt = attempt_of(self._status.document)
        self._account.read(attempt)  # after the status: an end that is seen comes with what led to it
        end = self._account.ends.get(attempt)
        final = state is not None and state.final
        if not (gone or final):
            self._over_since = None
            return _Sight(str(state) if state else None, over=False)
        self._over_since = self._over_since or time.monotonic()
        if gone:
            return _Sight(lines.ended(end) if end else lines.CRASHED, over=True, end=end)
        same = end is not None and lines.ended(end) in (state, contract.State.KILLED)
        return _Sight(str(state), over=True, end=end if same else None)

    def _event(self, sight: _Sight, *, end_only: bool) -> Event | None:
        if sight.over:
            patience = JUDGED if self._root is not None else GONE if sight.state == lines.CRASHED else 0.0
            waited = time.monotonic() - (self._over_since or 0.0)
            return Event.END if sight.end is not None or waited >= patience else None
        return Event.ALERT if self._account.fresh and not end_only else None

    def _settle(self, event: Event) -> None:
        """Waits for what belongs to it: the kill that an alert asks for, and a report that knows of both."""
        deadline = Deadline(SETTLE if self._root is not None else 0.0)
        while not deadline.passed:
            self._look()
            main = self._account.gravest(fresh=True)
            doomed = event is Event.ALERT and main is not None and main.get("action") == Action.KILL
            pending = doomed and self._account.kill() is None
            if not pending and _newer(self.folder / contract.DIAGNOSIS, self._account.path):
                return
            time.sleep(0.02)

    # ----------------------------------------------------------------------------------------------------- telling

    def _told(self, event: Event, sight: _Sight) -> dict[str, Any]:
        account, document = self._account, self._status.document
        kill = account.kill()
        main = self._main(event, sight, kill)
        rules = {plain(entry.get("rule"), 40) for entry in (*account.fresh, *account.open)}
        rule = plain(main.get("rule"), 40) if main else None
        step = main.get("step") if main and event is Event.ALERT else whole(document, "step")
        reason = lines.farewell(sight.state or "", sight.end or document, document) if event is Event.END else None
        return {
            "run": self._name(),
            "event": str(event),
            "state": sight.state,
            "step": step if type(step) is int else None,
            "reason": reason,
            "rule": rule,
            "severity": plain(main.get("severity"), 20) if main else None,
            "summary": plain(main.get("summary"), lines.SUMMARY) if main else None,
            "open": any(entry is main for entry in account.open) if main else None,
            "also": sorted(rules - {rule}),
            "kill": plain(kill.get("act"), 40) if kill else None,
            "diagnosis": self._there(contract.DIAGNOSIS),
            "next": self._there(contract.NEXT),
            "watched": self._root is not None,
            "cursor": account.offset,
        }  # fmt: skip

    def _name(self) -> str:
        """As the feed calls it; by its own name where no feed does, or the watched folder is the run itself."""
        here = self._above[0]
        return str(here.relative_to(self._root)) if self._root not in (None, here) else here.name

    def _main(self, event: Event, sight: _Sight, kill: Entry | None) -> Entry | None:
        """The alert that the answer is about."""
        if event is Event.ALERT:
            return self._account.gravest(fresh=True)
        killed_for = self._account.alerts.get(str(kill.get("finding"))) if kill else None
        if sight.state == contract.State.KILLED and killed_for is not None:
            return killed_for
        return self._account.gravest(fresh=False)

    def _there(self, name: str) -> str | None:
        path = self.folder / name
        return str(path) if path.exists() else None


def _newer(report: Path, journal: Path) -> bool:
    try:
        return os.stat(report).st_mtime_ns >= os.stat(journal).st_mtime_ns
    except OSError:
        return False
