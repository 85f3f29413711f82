"""The gradient is gone while there is still something to learn.

What it sees: a gradient norm that is exactly 0, or a ten-thousandth of its early level, or below 1e-7, with a loss
that has hardly left its start.

Why it matters: without a gradient nothing is learned, however long the run goes on: dead activations, frozen
parameters, a detached graph or a saturated output are the usual causes.

How it decides: a small gradient is also what a solved problem looks like, so the loss must still be above nine tenths
of its start (for positive losses; for others, have gained less than its noise). Exactly 0 needs 5 rows. The judge
waits 10 rows and 2 % of the run. In the zoo's tune and validate splits it named none of 1,851 healthy runs.

What to do: check that the parameters require gradients and are in the optimizer, look for dead activations (leaky
activations, smaller initial weights, normalisation), and for a loss that is computed on detached values.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.names import GRAD_NORM
from checker.series import median


@dataclass(frozen=True)
class Limits:
    min_values: int = 10
    zero_rows: int = 5
    absolute: float = 1e-7
    """SageMaker Debugger's documented limit for a vanished mean gradient."""
    ratio: float = 1e-4
    """Level over early level: BTTackler's documented quotient between layers, here between then and now."""
    unlearned: float = 0.9
    """Share of the start above which nothing has been learned."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """A vanished gradient on a loss that has not been learned."""
    grad, train = history.grad, history.train
    zeros = history.zero[GRAD_NORM]
    if len(grad.levels) < limits.min_values or len(train.levels) < limits.min_values:
        return None
    level, early = grad.level(), median(grad.levels[:5])
    gone = zeros.count >= limits.zero_rows or level < limits.absolute or level < limits.ratio * early
    start, now = train.start(), train.level()
    learned = now < limits.unlearned * start if start > 0 else start - now > train.spread()
    if not gone or learned:
        return None
    onset = zeros.first_row if zeros.count >= limits.zero_rows else grad.rows[-1]
    return Sighting(
        grade=Grade.SUSPECT,
        first_row=onset,
        first_step=zeros.first_step if zeros.count >= limits.zero_rows else grad.steps[-1],
        summary=f"grad_norm is {level:.3g} (early: {early:.3g}) while train_loss is {now:.4g} (start: {start:.4g})",
        evidence={"level": level, "early": early, "loss_start": start, "loss_level": now, "rows_of_zero": zeros.count},
        against=("a solved problem has small gradients too, but this loss has hardly moved",),
    )
