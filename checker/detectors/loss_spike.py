"""One value of the train loss far above its neighbours.

What it sees: a train loss ten times its usual noise, and half its level, above the level before it.

Why it matters: by itself it does not. Large training runs have dozens of spikes and come back from all of them.
Noted, they tell a growing instability from a single bad batch, and where to look in the data.

How it decides: one value against the median and the noise of the values just before it. It is information, never an
alert: a spike that stays is what divergence and explosion are for. In the zoo's tune and validate splits 191 of 1,851
healthy runs had such a value: that is why it is only noted.

What to do: nothing, if it comes back within a few rows. If spikes become frequent, clip gradients or lower Adam's
beta2, and look at the batches of those steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise

from checker.finding import Grade, Sighting
from checker.history import History
from checker.series import median


@dataclass(frozen=True)
class Limits:
    min_values: int = 20
    noises: float = 10.0
    """Ten robust sigmas above the local median: the definition of a spike in the public corpus."""
    of_level: float = 0.5


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """A spike in the last row."""
    train = history.train
    if train.count < limits.min_values or train.last_row != history.index:
        return None
    before = list(islice(train.recent, 0, len(train.recent) - 1))
    if len(before) < limits.min_values - 1:
        return None
    level = median(before)
    noise = median(abs(b - a) for a, b in pairwise(before)) / 0.954
    excess = train.last - level
    if excess <= limits.noises * noise or excess <= limits.of_level * abs(level) or not noise:
        return None
    return Sighting(
        grade=Grade.NOTE,
        first_row=history.index,
        first_step=history.step,
        summary=f"train_loss spiked to {train.last:.4g} from a level of {level:.4g}",
        evidence={"value": train.last, "level": level, "noises": excess / noise},
        against=("spikes are common in healthy runs; it matters only if the loss stays up",),
    )
