"""The loss is far above anything it has ever been.

What it sees: the last values of the train or validation loss lie above the start of the run by more than everything
the run ever gained, and by a multiple of the start itself.

Why it matters: a loss that much worse than an untrained model's means weights of a size that no further step repairs.
It is the last finite stage before NaN.

How it decides: the median of the last three values, so that a single bad batch cannot do it, is compared with a
yardstick: the level at the start, or the median of the first tenth where that is higher (losses that rise during
warm-up, as from 12 to 17 and down to 6, are healthy). It must exceed three times the yardstick (ten times for the
validation loss, and for a run that had not gained a quarter of its start: a generator's loss climbs while its
training is well), lie above it by twice the whole gain of the run and twenty times its noise, above everything before
the onset, and not be coming down. It is certain when the validation loss agrees, or after 5 % of the plan (a quarter
of the rows so far) where there is none; at a hundred times the start it need only outlast a spike. Where the
validation loss denies it, it is reported and nothing is killed. A loss that starts at or below 0 has no scale and
needs 20 values first. In the zoo's tune and validate splits it named 24 of 27 explosions and none of 1,851 healthy
runs.

What to do: lower the learning rate by a factor of ten or clip gradients to 1.0, and resume from the checkpoint before
the onset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from checker.finding import Grade, Sighting
from checker.history import History
from checker.series import Series, median
from checker.witness import Witness, long_enough, settled, validation


@dataclass(frozen=True)
class Limits:
    min_values: int = 4
    """Three make the level, one more a start."""
    times: float = 3.0
    """Level over the yardstick, for positive losses: a random model is rarely three times worse than chance."""
    val_times: float = 10.0
    """The same for the validation loss: confident overfitting can be several times worse than chance."""
    ranges: float = 2.0
    """Excess over the yardstick in units of all that the run had gained."""
    min_unscaled: int = 20
    """Values before a loss that starts at or below 0 is judged: without a scale only its noise and range are left."""
    watched: int = 8
    held: float = 0.8
    """Share of the highest of the five values before that the level must hold: a decaying spike is on its way back."""
    kept: float = 0.75
    """Share of the excess half-way since the onset that must be left: a slower decay of a spike is one too."""
    noises: float = 20.0
    """Excess in units of the noise before the onset."""
    unlearned_times: float = 10.0
    """Level over the yardstick for a run that had not gained a quarter of its start: the loss of a generator climbs to
    several times its start while its training is healthy."""
    learned: float = 0.25
    beyond_doubt: float = 100.0
    """Level in units of the start that needs no witness, only to be no spike."""


LIMITS = Limits()

MAX_TIMES = 1e6
"""Stands for "times nothing"."""


def detect(history: History, limits: Limits) -> Sighting | None:
    """An explosion of the train loss or, failing that, of the validation loss."""
    watched = ((history.train, "train_loss", limits.times), (history.val, "val_loss", limits.val_times))
    for series, name, times in watched:
        found = _exploded(series, history.era(series), name, times, limits)
        if found is None:
            continue
        if name == "train_loss":
            grade = _believed(history, found, limits)
            return None if grade is None else replace(found, grade=grade)
        start = max(history.train.levels[:5], default=0.0)
        if found.evidence["level"] > start:  # a validation loss near 0 may rise a thousandfold and still be good
            return found if long_enough(history, found.first_row) else replace(found, grade=Grade.SUSPECT)
    return None


def _believed(history: History, found: Sighting, limits: Limits) -> Grade | None:
    """How far the validation loss, and time, rule out a transient."""
    short = settled(history, found.first_row)
    if abs(found.evidence["times_start"]) > limits.beyond_doubt:
        return Grade.SURE if short else None
    witness, long = validation(history, found.first_row), long_enough(history, found.first_row)
    if witness is Witness.AGREES or (long and witness is not Witness.DENIES):
        return Grade.SURE
    if long or (short and witness is Witness.ABSENT):
        return Grade.SUSPECT
    return None


def _exploded(series: Series, era: int, name: str, times: float, limits: Limits) -> Sighting | None:
    levels = series.levels
    if series.count - era < limits.min_values or len(levels) - era < 2:
        return None
    level = series.level(3)
    known = max(1, len(levels) - 3) if series.width == 1 else len(levels)
    head = levels[era : era + max(3, (known - era) // 10)][: max(1, known - era)]
    yardstick = max(median(head), median(head[:3]))
    best = min(levels[era : max(known, era + 1)])
    excess, gained = level - yardstick, yardstick - best
    if excess <= limits.ranges * gained or excess <= limits.noises * series.spread(era, known):
        return None
    if yardstick > 0 and gained < limits.learned * yardstick:
        times = max(times, limits.unlearned_times)
    last = list(series.recent)[-limits.watched :]
    if level < times * yardstick or min(last[-3:]) < times * yardstick:
        return None
    if yardstick <= 0 and series.count < limits.min_unscaled:
        return None
    if excess < limits.held * (max(last[:-3], default=level) - yardstick):
        return None
    onset = _onset(series, yardstick + excess / 4 if excess < yardstick * 100 else yardstick * times)
    middle = levels[(onset + len(levels) - 1) // 2] - yardstick
    if level <= max(levels[era:onset], default=level - 1) or excess < limits.kept * middle:
        return None
    return Sighting(
        grade=Grade.SURE,
        first_row=series.rows[onset],
        first_step=series.steps[onset],
        summary=f"{name} exploded to {level:.4g}; it started at {yardstick:.4g} and had been as low as {best:.4g}",
        evidence={
            "metric": name,
            "start": yardstick,
            "best": best,
            "level": level,
            "times_start": level / yardstick if yardstick else MAX_TIMES,
        },
    )


def _onset(series: Series, line: float) -> int:
    """The first block from which the curve stays above `line`."""
    index = len(series.levels) - 1
    while index > 0 and series.levels[index - 1] > line:
        index -= 1
    return index
