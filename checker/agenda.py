"""Who is to be looked at when."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Generic, TypeVar

Run = TypeVar("Run")


class Agenda(Generic[Run]):
    """One appointment for each run; a new one replaces the old."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Run]] = []
        self._dates: dict[Run, tuple[float, int]] = {}
        self._serial = 0

    @property
    def next(self) -> float:
        """When the first of them is due; infinite when there is none."""
        while self._heap and self._dates.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)  # it was replaced or dropped
        return self._heap[0][0] if self._heap else math.inf

    def plan(self, run: Run, at: float) -> None:
        """Makes an appointment at a time of the monotonic clock; an infinite one is none."""
        if at == math.inf:
            self._dates.pop(run, None)
            return
        self._serial += 1
        self._dates[run] = (at, self._serial)
        heapq.heappush(self._heap, (at, self._serial, run))

    def planned(self, run: Run) -> bool:
        return run in self._dates

    def hasten(self, run: Run, at: float) -> None:
        """As `plan`, but never puts off what is due before that."""
        known = self._dates.get(run)
        if known is None or at < known[0]:
            self.plan(run, at)

    def drop(self, run: Run) -> None:
        """Cancels the appointment of a run."""
        self._dates.pop(run, None)

    def due(self, now: float) -> Iterator[Run]:
        """Those whose time has come, first things first; none of them has an appointment any more."""
        while self.next <= now:
            run = heapq.heappop(self._heap)[2]
            del self._dates[run]
            yield run
