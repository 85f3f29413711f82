"""The train loss creeps up.

What it sees: the same as divergence, on a smaller scale: a wide running median of the train loss that has lost a
fifth of what was gained and keeps rising or stays up for a tenth of the run.

Why it matters: slow drift is how a learning rate that is slightly too high, a bad stretch of data or growing weights
announce themselves, hours before the loss leaves the chart.

How it decides: a running median over 11 blocks that lies a tenth over its best, has lost a fifth of the gain, two and
a half times the noise and seven times the slow wandering of the curve before, is above any earlier excursion that
went back, is not falling, and has been up for a tenth of the curve. The run must have gained three tenths of its
start and ten times its wandering first. Where the validation loss denies it nothing is said. It is reported and never
killed: many such runs come back with the decay of the learning rate. In the zoo's tune and validate splits it named 3
of 1,851 healthy runs.

What to do: watch the next evaluation. If it goes on, resume from the best checkpoint with half the learning rate, and
look at what changed in the data at the onset.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.trend import rise
from checker.witness import Witness, validation


@dataclass(frozen=True)
class Limits:
    width: int = 11
    min_values: int = 30
    real_gain: float = 0.3
    """As in divergence, where it is 0.5: below it, wandering is what some objectives do."""
    gained_wanders: float = 10.0
    """The gain in units of the curve's own wandering: 10 and more in public runs that learned."""
    lost_share: float = 0.2
    over_best: float = 0.1
    noises: float = 2.5
    """Nearly 7 standard errors of a median of 11: less than in divergence, since nothing is killed for it."""
    wanders: float = 7.0
    """As in divergence."""
    excursions: float = 1.5
    lasting: float = 0.1
    """Share of the curve that the rise must have lasted."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """A slow rise of the train loss."""
    series = history.train
    era = history.era(series)
    found = rise(series, era, width=limits.width, min_values=limits.min_values, over_best=limits.over_best)
    if (
        found is None
        or found.best <= 0
        or found.excess <= max(limits.noises * found.noise, limits.wanders * found.wander)
        or found.falling > found.noise
    ):
        return None
    if found.gained < max(limits.real_gain * found.start, limits.gained_wanders * found.wander):
        return None
    if found.lost_share < limits.lost_share or found.excess < limits.over_best * abs(found.best):
        return None
    if found.excess < limits.excursions * found.excursion:
        return None
    if found.blocks_since_onset < limits.lasting * (len(series.levels) - era):
        return None
    if validation(history, found.onset_row) is Witness.DENIES:
        return None
    return Sighting(
        grade=Grade.SUSPECT,
        first_row=found.onset_row,
        first_step=found.onset_step,
        summary=f"train_loss drifts up: {found.level:.4g} after a best of {found.best:.4g} (step {found.best_step})",
        evidence=found.evidence(),
        against=found.against(),
    )
