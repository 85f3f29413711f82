"""Who lives: every process that runs name is looked at once a beat, however many runs name it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar

import contract
from checker import process
from checker.events import Life

PORTION = 1_000
"""Processes looked at in a beat (some 12 ms); where there are more, they take turns."""

Run = TypeVar("Run")


class Census(Generic[Run]):
    """Processes, with the runs that depend on each."""

    def __init__(self) -> None:
        self._runs: dict[contract.Process, set[Run]] = {}
        self._named: dict[Run, contract.Process] = {}
        self._life: dict[contract.Process, Life] = {}
        self._round: Iterator[contract.Process] = iter(())

    def life_of(self, named: contract.Process | None) -> Life:
        """What was known about a process at its last look; one that nobody has asked for yet is looked at now."""
        known = None if named is None else self._life.get(named)
        return process.look(named) if known is None else known

    def note(self, run: Run, named: contract.Process | None, life: Life) -> bool:
        """`run` depends on this process now, and on no other, and has seen it as `life`; whether it is another one.

        What the run has seen is what a change is measured by: a process that ends between its look and ours would else
        never be told of.
        """
        before = self._named.get(run)
        if before == named:
            return False
        if before is not None:
            runs = self._runs[before]
            runs.discard(run)
            if not runs:
                del self._runs[before]
                self._life.pop(before, None)
        if named is None:
            self._named.pop(run, None)
        else:
            self._named[run] = named
            self._runs.setdefault(named, set()).add(run)
            self._life.setdefault(named, life)
        return True

    def changed(self) -> set[Run]:
        """Looks at the processes, and says whose is in another state than it was."""
        found: set[Run] = set()
        portion = list(islice(self._round, PORTION))
        if len(portion) < PORTION:
            self._round = iter(list(self._runs))
            portion = portion or list(islice(self._round, PORTION))
        for named in portion:
            runs = self._runs.get(named)
            if runs is None:
                continue
            life = process.look(named)
            if life is not self._life.get(named):
                self._life[named] = life
                found |= runs
        return found
