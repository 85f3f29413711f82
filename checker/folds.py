"""The scores of folds: each judges a model of its own, so they are counted and checked but never made a curve."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from checker.events import Row

FOLD_END = "fold_end"


class BadScore(NamedTuple):
    """A score that is not finite, and where it stands."""

    name: str
    value: float
    row: int
    fold: int | None
    """None in a row that sums folds up."""
    folds: int | None


@dataclass(slots=True)
class Folds:
    """The folds of a cross-validation, or of all the trials of a search, in as much memory as the last of them."""

    count: int = 0
    """Folds that have ended, those of earlier trials included."""
    each: int | None = None
    """How many folds belong together, as the last of them said."""
    means: int = 0
    """Summaries over folds."""
    last_row: int = -1
    """The last row that held scores."""
    bad: BadScore | None = None
    """The first score in that row that is not finite."""
    bad_rows: int = 0
    """How many rows had one."""

    def take(self, row: Row) -> None:
        """Takes the scores of a fold, or of a summary over folds. A null says that something was not measured."""
        if row.event == FOLD_END:
            self.count += 1
            self.each = row.folds
        else:
            self.means += 1
        self.last_row = row.index
        self.bad = None
        for name, value in row.values.items():
            if value is not None and not isfinite(value):
                self.bad = BadScore(name, value, row.index, row.fold, row.folds)
                self.bad_rows += 1
                return
