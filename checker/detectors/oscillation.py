"""The train loss swings wildly.

What it sees: neighbouring values of the train loss that differ several times as much as they did in the calmest part
of the run, by an amount comparable to everything the run has gained, without the level coming down.

Why it matters: swings that grow are the edge of stability: the step size is too large for the curvature. The run may
still be saved by a lower learning rate, and its last checkpoint is as random as its last loss.

How it decides: the mean step from one value to the next, over the last twelfth of the run, is at least four times
what it was in the calmest of the first three quarters, half of the gain, and a tenth of the level; the level is no
better than half-way through the run. A log that was always noisy has no calm part to compare with and is left alone.
In the zoo's tune and validate splits it named 4 of 1,851 healthy runs.

What to do: halve the learning rate or double the batch (or the accumulation), and clip gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.series import median


@dataclass(frozen=True)
class Limits:
    min_values: int = 40
    times: float = 4.0
    """Noise now over the noise of the calmest quarter; stationary noise varies by less than two between quarters."""
    of_gain: float = 0.5
    of_level: float = 0.1
    """AUTOTRAINER and BTTackler ask for relative swings of 0.03 and 0.2; this lies between."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """Growing swings of the train loss."""
    train = history.train
    blocks = len(train.levels)
    if train.count < limits.min_values or blocks < limits.min_values or history.era(train):
        return None
    now = median(train.swings[-max(8, blocks // 12) :])
    level = train.level(16)
    if now < limits.of_level * abs(level):
        return None
    quarter = blocks // 4
    calm, since = min((median(train.swings[part * quarter : (part + 1) * quarter]), part) for part in range(3))
    best = train.best()[0]
    gained = train.start() - best
    halfway = median(train.levels[blocks // 2 - 5 : blocks // 2 + 6])
    if now < limits.times * calm or now < limits.of_gain * gained or level < halfway or not calm:
        return None
    onset = min((since + 1) * quarter, blocks - 1)
    return Sighting(
        grade=Grade.SUSPECT,
        first_row=train.rows[onset],
        first_step=train.steps[onset],
        summary=f"train_loss swings by {now:.3g} from row to row, {now / calm:.0f} times as much as when it was calm",
        evidence={"swing": now, "calm_swing": calm, "level": level, "best": best, "gained": gained},
        against=("the median level is not above its best",) if level <= best + now else (),
    )
