"""The train loss went up and stays up.

What it sees: the level of the train loss (a running median) far above the best level it had, with a good part of what
had been gained lost again.

Why it matters: the optimizer has left the region in which it was learning. Most such runs never return to their best,
and every further step is paid for nothing.

How it decides: four comparisons, none on the raw scale of the loss. More than half of the drop from start to best is
lost, or the loss lies half its best above it without ever having gained. The excess is many times the noise of the
curve, at a narrow window or, for noisy curves, with a smaller multiple at a wide one. It is larger than any excursion
that this run recovered from. And the curve is not falling back. All of it must hold for 2 % of the rows.

What to do: go back to the last checkpoint before the onset with a learning rate about three times lower, a longer
warm-up and gradient clipping.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.trend import Rise, rise


@dataclass(frozen=True)
class Limits:
    min_values: int = 10
    """Fewer values make neither a start nor a best."""
    lost_share: float = 0.5
    """Part of the drop from start to best that is lost; the definition of divergence in the public corpus."""
    over_best: float = 0.5
    """Excess relative to the best level, for positive losses; the same definition."""
    scales: tuple[tuple[int, float], ...] = ((5, 6.0), (11, 3.5))
    """Width of the running median and excess in units of noise. A median of 5 (of 11) independent values has 0.54
    (0.37) of their noise, so both are more than 9 standard errors: room for noise that is not independent."""
    excursions: float = 1.5
    """Excess in units of the largest excursion that this run recovered from."""
    recovering: float = 0.1
    """A fall by this part of the excess over the last quarter of the time since the onset counts as coming back."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """A lasting rise of the train loss, at one of two scales."""
    series = history.train
    for width, noises in limits.scales:
        found = rise(
            series,
            history.era(series),
            width=width,
            min_values=max(limits.min_values, 2 * width - 2),
            over_best=limits.over_best,
        )
        if found is not None and found.excess > noises * found.noise and _lost(found, limits):
            return sighting(found)
    return None


def _lost(found: Rise, limits: Limits) -> bool:
    if found.lost_share < limits.lost_share:
        return False
    if found.best > 0 and found.excess < limits.over_best * found.best:
        return False
    if found.excess < limits.excursions * found.excursion:
        return False
    return found.falling < limits.recovering * found.excess


def sighting(found: Rise) -> Sighting:
    return Sighting(
        grade=Grade.SURE,
        first_row=found.onset_row,
        first_step=found.onset_step,
        summary=(
            f"train_loss rose from its best {found.best:.4g} (step {found.best_step}) "
            f"to {found.level:.4g} and stays there"
        ),
        evidence=found.evidence(),
        against=found.against(),
    )
