"""Which reports are due: what happened is told at once, mere progress when there is time for it.

A report costs some milliseconds, so ten thousand of them would hold up ten thousand runs. They are written one by one
in the time that a round leaves for them, and those that only show how far a run has come share a hundredth of the time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from checker.run import Run

FRESH_SECONDS = 2.0
"""Progress alone is reported no more often than this."""

SHARE = 0.01
"""Of the time, for reports of mere progress, and as much for the list of all runs."""

NEWS_SHARE = 0.05
"""As above for the list once something has happened."""


class Reports:
    """The runs whose reports are due.

    Args:
        write: writes the reports of one run.
        write_all: writes what is about all of them, a bit each time that its answer is advanced.
        fence: holds an error in one of them back; it is told of which run, or None for all.
    """

    def __init__(
        self,
        write: Callable[[Run], None],
        write_all: Callable[[], Iterator[None]],
        fence: Callable[[Run | None], AbstractContextManager[None]],
    ) -> None:
        self.written = 0
        self._write, self._write_all, self._fence = write, write_all, fence
        self._urgent: dict[Run, None] = {}
        self._progress: dict[Run, None] = {}
        self._last: dict[Run, float] = {}
        self._list: Iterator[None] | None = None
        self._list_due = math.inf
        self._list_spent = 0.0
        self._list_ended = 0.0
        self._list_cost = 0.0
        self._free_at = 0.0
        """When the next report of mere progress may be written."""

    @property
    def urgent(self) -> bool:
        """Something is to be told at once."""
        return bool(self._urgent) or self._list is not None

    @property
    def idle(self) -> bool:
        """Everything that happened has been reported, and so has the list of all runs."""
        return not self.urgent and self._list_due == math.inf

    @property
    def next(self) -> float:
        """When there may be something to do, by the monotonic clock."""
        first = next(iter(self._progress), None)
        due = math.inf if first is None else max(self._free_at, self._last.get(first, 0.0) + FRESH_SECONDS)
        return min(due, self._list_at)

    @property
    def _list_at(self) -> float:
        """When the list of all runs may be begun; infinite while nobody needs it."""
        return max(self._list_due, self._list_ended + self._list_cost / NEWS_SHARE)

    def note(self, run: Run) -> None:
        """Takes notice of what has happened to a run; one that was never reported is due at once."""
        if run.urgent or (run not in self._last and not run.behind):
            self._urgent[run] = None
        elif run.progressed:
            self._progress[run] = None

    def forget(self, run: Run) -> None:
        for known in (self._urgent, self._progress, self._last):
            known.pop(run, None)
        self.list_is_due()

    def work(self, seconds: float) -> None:
        """Writes what is due, for about so long; one report at least, if there is any time at all."""
        now = time.monotonic()
        end = now + seconds
        while now < end and self._one(now):
            now = time.monotonic()

    def _one(self, now: float) -> bool:
        """Writes the report that comes first; False when none is due."""
        run = next(iter(self._urgent), None)
        if run is not None:
            self._report(run, now)
            self.list_is_due()
            return True
        if self._list is not None:
            self._go_on(now)
            return True
        if now >= self._list_at:
            self._list_due, self._list_spent = math.inf, 0.0
            with self._fence(None):
                self._list = self._write_all()
            return True
        run = next(iter(self._progress), None)
        if run is None or now < self._free_at or now < self._last.get(run, 0.0) + FRESH_SECONDS:
            return False
        self._report(run, now)
        self._list_due = min(self._list_due, max(now + FRESH_SECONDS, self._list_ended + self._list_cost / SHARE))
        self._free_at = time.monotonic() + (time.monotonic() - now) / SHARE
        return True

    def _report(self, run: Run, now: float) -> None:
        self._urgent.pop(run, None)
        self._progress.pop(run, None)
        if run.behind:
            return  # it is due again when all has been read
        run.urgent = run.progressed = False
        self._last[run] = now
        self.written += 1
        with self._fence(run):
            self._write(run)

    def list_is_due(self) -> None:
        """Something has happened that the list of all runs should show."""
        self._list_due = 0.0

    def _go_on(self, now: float) -> None:
        """One bit of the list of all runs; the next one may be begun when it has had its share of the time."""
        steps = self._list
        assert steps is not None
        more = False
        with self._fence(None):
            for _ in steps:
                more = True
                break
        self._list_spent += time.monotonic() - now
        if not more:
            self._list, self._list_ended, self._list_cost = None, time.monotonic(), self._list_spent
