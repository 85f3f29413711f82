"""Too good to be true.

What it sees: a train loss that falls to a twentieth of its level within a fiftieth of the run, after it had settled;
or a validation loss far below the train loss, evaluation after evaluation.

Why it matters: a leak of labels into the inputs, validation data inside the training set, or a metric computed on the
wrong split all look like a breakthrough, and everything built on the result is worthless.

How it decides: the level falls by 95 % between two neighbouring stretches of the curve without a declared change of
regime, or the validation loss stays under half the train loss for five evaluations. Dropout, augmentation and label
smoothing make a train loss somewhat higher than the validation loss; twice is beyond what they do. It is a note,
since sudden understanding (grokking) exists. In the zoo's tune and validate splits 63 of 1,851 healthy runs were
noted so: that is why nobody is alerted.

What to do: check the split for duplicates, evaluate on data that was never near the training code, and look at what
the model does with shuffled labels.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.series import Series, median


@dataclass(frozen=True)
class Limits:
    min_values: int = 30
    fall: float = 0.05
    """Level after over level before."""
    val_ratio: float = 0.5
    evaluations: int = 5


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """An improvement that calls for a second look; a note, never an alert."""
    train, val = history.train, history.val
    levels = train.levels
    if len(levels) < limits.min_values:
        return None
    before, after = median(levels[-15:-5]), median(levels[-3:])
    regime = history.era_row > train.rows[-15]
    if 0 <= after < limits.fall * before and not regime and _settled(train, before):
        told = f"train_loss fell from {before:.4g} to {after:.4g} within {train.rows[-1] - train.rows[-5]} rows"
        return _sighting(history, train.rows[-3], train.steps[-3], told, before, after)
    last = list(val.recent)[-limits.evaluations :]
    small = len(last) == limits.evaluations and 0 < max(last) < limits.val_ratio * train.level()
    if small and _sane(train):
        told = (
            f"val_loss (at most {max(last):.4g}) is under half of train_loss ({train.level():.4g}), {len(last)} times"
        )
        return _sighting(history, val.last_row, val.last_step, told, train.level(), max(last))
    return None


def _settled(train: Series, level: float) -> bool:
    blocks = len(train.levels)
    return train.spread(max(0, blocks - 25), blocks - 5) < 0.1 * abs(level)


def _sane(train: Series) -> bool:
    """Beside an exploded loss anything looks small."""
    return train.level() <= train.start() + 3 * train.spread()


def _sighting(history: History, row: int, step: int, told: str, before: float, after: float) -> Sighting:
    return Sighting(
        grade=Grade.NOTE,
        first_row=row,
        first_step=step,
        summary=told,
        evidence={"before": before, "after": after, "progress": history.progress or 0.0},
        against=("sudden generalisation, heavy dropout or augmentation can look like this",),
    )
