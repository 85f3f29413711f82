"""The gradient norm has left its range by orders of magnitude.

What it sees: the level of the gradient norm (median of its last five finite values) many times its usual level, which
is the median of the curve before.

Why it matters: with such gradients one step moves the weights further than all steps before. It usually comes before
the loss explodes, and it is the moment at which a checkpoint is still good.

How it decides: on ratios only. A level 10 times the usual one for three rows is suspected; single spikes of a
thousand times are known from healthy runs and do not move a median. It becomes certain when the loss confirms it: the
loss is up from its best by a quarter of what had been gained, or by half of its best, beyond its noise and not
falling back, and the validation loss is up as well, or 5 % of the plan has passed without one. Harder data raise both
gradient and train loss (11 to 40 times in 13 healthy runs of the zoo's tune split); there the validation loss denies
it. A gradient norm that was almost 0 because the problem was solved has no range to leave: the loss must be up for
any report. In the zoo's tune and validate splits it spoke about none of 1,851 healthy runs.

What to do: clip the gradient norm to about its usual level, lower the learning rate, lengthen the warm-up. With
clipping on already, the learning rate is the cause.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.series import median
from checker.trend import Rise, rise
from checker.witness import Witness, long_enough, premature, validation


@dataclass(frozen=True)
class Limits:
    min_values: int = 8
    ratio: float = 10.0
    """Level over usual level: Megatron-LM's re-run machine takes the same factor over its calibrated maximum."""
    huge: float = 100.0
    """The same that is told before the next evaluation: harder data make it 10 to 40 in the zoo."""
    lost_share: float = 0.25
    """Confirmation by the loss: the part of its gain that is lost."""
    over_best: float = 0.5
    """Confirmation by the loss: excess relative to its best."""
    loss_noises: float = 3.0
    """Excess of the loss in units of its noise, at a median of five: more than 5 standard errors."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """An exploded gradient norm, and whether the loss confirms it."""
    grad = history.grad
    era = history.era(grad)
    if len(grad.levels) - era < limits.min_values:
        return None
    level = grad.level()
    if level < limits.ratio * min(grad.levels[era:]):
        return None
    usual, onset = _usual(list(grad.levels[era:]), limits.ratio)
    if usual <= 0 or level < limits.ratio * usual:
        return None
    loss = rise(history.train, history.era(history.train), width=5, min_values=limits.min_values)
    up = loss is not None and loss.excess > limits.loss_noises * loss.noise
    confirmed = up and loss is not None and _confirms(loss, limits)
    if not up and history.train.count:
        return None
    witness = validation(history, grad.rows[era + onset])
    alone = long_enough(history, grad.rows[era + onset])
    if witness is Witness.DENIES or (witness is Witness.WAITING and not alone and level < limits.huge * usual):
        return None
    confirmed = confirmed and (alone or witness is Witness.AGREES) and not premature(history, grad.rows[era + onset])
    return Sighting(
        grade=Grade.SURE if confirmed else Grade.SUSPECT,
        first_row=grad.rows[era + onset],
        first_step=grad.steps[era + onset],
        summary=f"grad_norm is at {level:.4g}, {level / usual:.0f} times its usual {usual:.4g}",
        evidence={"usual": usual, "level": level, "ratio": level / usual} | _loss_evidence(loss),
        against=() if confirmed else ("the loss has not lost much yet",),
    )


def _usual(levels: list[float], ratio: float) -> tuple[float, int]:
    """The median level before the last rise by `ratio`, and the block where that rise began."""
    onset = len(levels) - 1
    usual = median(levels)
    for _ in range(2):
        while onset > 1 and levels[onset - 1] > usual * ratio / 2:
            onset -= 1
        usual = median(levels[:onset])
    return usual, onset


def _confirms(loss: Rise, limits: Limits) -> bool:
    over = loss.best > 0 and loss.excess > limits.over_best * loss.best
    lost = loss.lost_share > limits.lost_share and (loss.best <= 0 or loss.excess > 0.1 * loss.best)
    return (over or lost) and not loss.recovering and not loss.remains and loss.excess > 1.5 * loss.excursion


def _loss_evidence(loss: Rise | None) -> dict[str, float]:
    return (
        {} if loss is None else {"loss_best": loss.best, "loss_level": loss.level, "loss_lost_share": loss.lost_share}
    )
