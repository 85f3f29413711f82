"""The validation loss climbs while the train loss falls.

What it sees: the level of the validation loss (median of the last three evaluations) clearly above its best, with a
train loss that went on falling since then.

Why it matters: from the best evaluation on, the model learns the training set by heart. The checkpoint of that moment
is the better model, and the compute since then bought nothing.

How it decides: the level must be 8 % (suspected) or 10 % (certain) above the best, which is the definition used for
the public corpus, beyond three times the noise of the validation curve, with no new best for at least three
evaluations and a tenth of all. The train loss must be lower now than at the best evaluation; if both rise it is
divergence, not this. When another metric was declared as the one that counts and it is still improving, the finding
is a note. In the zoo's tune and validate splits it named 150 of 163 overfit runs and 6 of 1,851 healthy ones.

What to do: keep the best checkpoint and stop there next time, or regularise: more data, dropout, weight decay, a
smaller model, augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.series import Series, median


@dataclass(frozen=True)
class Limits:
    min_evaluations: int = 5
    suspect: float = 0.08
    sure: float = 0.10
    """Relative excess over the best level; 10 % is the corpus' definition, and somewhat less its early sign."""
    noises: float = 3.0
    """Excess in units of the noise of the validation curve: the lowest of many medians of three lies low by chance, so
    the corpus' factor of 2, meant for one look at the end, is not enough for a look at every evaluation."""
    stale_evaluations: int = 3
    stale_share: float = 0.1
    train_fall: float = 0.01
    """Relative fall of the train loss since the best evaluation."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """Overfitting, judged at the last evaluation."""
    val, train = history.val, history.train
    era = history.era(val)
    if len(val.levels) - era < limits.min_evaluations or len(train.levels) < limits.min_evaluations:
        return None
    smooth = val.smooth(3)[era:]
    best, level = min(smooth), val.level(3)
    at = smooth.index(best)
    stale = len(smooth) - 1 - at
    excess = level - best
    if stale < max(limits.stale_evaluations, limits.stale_share * len(smooth)) or excess < limits.suspect * abs(best):
        return None
    noise = max(val.spread(era), val.spread(era + at))
    if excess <= limits.noises * noise:
        return None
    near = range(max(era, era + at - 1), min(len(val.levels), era + at + 2))
    lowest = min(near, key=val.levels.__getitem__)  # the evaluation itself, for a person who looks for it
    then, now = _train_at(train, val.rows[era + at]), train.level()
    if then - now < limits.train_fall * abs(then):
        return None
    above = (level - val.levels[lowest]) / max(abs(best), 1e-12)
    return Sighting(
        grade=_grade(history, excess >= limits.sure * abs(best), limits),
        first_row=val.rows[lowest],
        first_step=val.steps[lowest],
        summary=(
            f"val_loss is {level:.4g}, {100 * above:.0f} % above its best {val.levels[lowest]:.4g} "
            f"(step {val.steps[lowest]}), while train_loss fell from {then:.4g} to {now:.4g}"
        ),
        evidence={
            "best_val_loss": val.levels[lowest],
            "best_step": val.steps[lowest],
            "val_loss": level,
            "excess": excess,
            "noise": noise,
            "evaluations_since_best": stale * val.width,
            "train_loss_at_best": then,
            "train_loss": now,
            "gap": level - now,
        },
        against=("the validation curve is noisy",) if excess < 4 * noise else (),
    )


def _grade(history: History, sure: bool, limits: Limits) -> Grade:
    """A note while the metric that was declared to count still finds new bests."""
    smooth = history.monitor.smooth(3)
    if len(smooth) >= limits.min_evaluations and smooth.index(min(smooth)) >= len(smooth) - limits.stale_evaluations:
        return Grade.NOTE
    return Grade.SURE if sure else Grade.SUSPECT


def _train_at(train: Series, row: int) -> float:
    """The level of the train loss around `row`."""
    block = train.block_at(row)
    return median(train.levels[max(0, block - 2) : block + 3])
