"""The train loss went up and stays up.

What it sees: the level of the train loss (a running median) far above the best level it had, with a good part of what
had been gained lost again.

Why it matters: the optimizer has left the region in which it was learning. Most such runs never return to their best,
and every further step is paid for nothing.

How it decides: four comparisons, none on the raw scale of the loss. More than half of the drop from start to best is
lost and the loss lies half its best above it. The excess is many times the noise of the curve, at a narrow window or,
for noisy curves, with a smaller multiple at a wide one. It is larger than any excursion that this run recovered from.
And the curve is not falling back. A run that never gained has nothing to lose here (see explosion). Then a second
witness is asked, since harder data, noisier labels and mining raise the train loss of a healthy run as well: of 1,345
runs of the zoo's tune split that were well in the end the comparisons alone killed 51. Where the validation loss
denies the rise, nothing is said; where it agrees twice, the rise is certain; where there is none, the rise must last
for 5 % of the plan (or a quarter of the rows so far) with three quarters of the drop lost. Certainty also needs an
excess far beyond the slow wandering that the curve showed before, as losses of adversarial or reinforcement
objectives do, and, in the first tenth of the plan, that the rise has lasted as long as all before it. In the zoo's
tune and validate splits it named 104 of 122 divergences (the others fell to other rules) and 8 of 1,851 healthy runs,
and killed none of these.

What to do: go back to the last checkpoint before the onset with a learning rate about three times lower, a longer
warm-up and gradient clipping.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.trend import Rise, rise
from checker.witness import Witness, long_enough, premature, settled, validation


@dataclass(frozen=True)
class Limits:
    lost_share: float = 0.5
    """Part of the drop from start to best that is lost; the definition of divergence in the public corpus."""
    lost_unscaled: float = 1.25
    """The same where the best level is not positive: the loss of a policy gradient comes back to 0, where it started,
    as the policy gets better (41 of 88 healthy runs of such a program in the zoo)."""
    over_best: float = 0.5
    """Excess relative to the best level, for positive losses; the same definition."""
    real_gain: float = 0.5
    """Part of the start that must have been gained before losing it means something: objectives that never fall far
    (adversarial, reinforcement) wander up and down by a third of their start and are healthy."""
    told_gain: float = 0.25
    """The same for an alert, where the validation loss rose as well: in an adversarial training both do, and it is well
    (67 of 90 runs of one such program in the zoo were killed when this was enough for a kill)."""
    scales: tuple[tuple[int, float], ...] = ((5, 6.0), (11, 3.5))
    """Width of the running median and excess in units of noise. A median of 5 (of 11) independent values has 0.54
    (0.37) of their noise, so both are more than 9 standard errors: room for noise that is not independent."""
    wanders: float = 14.0
    """Excess in units of the curve's slow wandering before. The diverged public runs reach 18 to many thousands, random
    walks that look like a divergence 5 to 35."""
    gained_wanders: float = 6.0
    """The same for what had been gained: 10 and more in the public runs, 6.5 in the zoo, mostly under 6 in walks."""
    far: float = 30.0
    """Excess in the same units that needs no gain: a run that diverged before it had learned anything."""
    excursions: float = 1.5
    """Excess in units of the largest excursion that this run recovered from."""
    alone_lost: float = 0.75
    """Part of the drop that must be lost where no validation loss confirms it: harder data cost less than that."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """A lasting rise of the train loss, at one of two scales."""
    series, era = history.train, history.era(history.train)
    found = {
        width: rise(series, era, width=width, min_values=max(10, 2 * width - 2), over_best=limits.over_best)
        for width, _ in limits.scales
    }
    if any(seen is not None and seen.recovering for seen in found.values()):
        return None
    for width, noises in limits.scales:
        seen = found[width]
        if seen is not None and seen.excess > noises * seen.noise and _lost(seen, limits):
            return _weighed(history, seen, limits)
    return None


def _weighed(history: History, found: Rise, limits: Limits) -> Sighting | None:
    """How far to go on a rise: as far as the validation loss does, or time where there is none."""
    witness = validation(history, found.onset_row)
    needed = limits.told_gain if witness in (Witness.LEANS, Witness.AGREES) else limits.real_gain
    if witness is Witness.DENIES or not _learned(found, needed):
        return None
    if not settled(history, found.onset_row):
        return None
    confirmed = witness is Witness.AGREES
    if not confirmed and not long_enough(history, found.onset_row):
        return None if witness is Witness.WAITING else sighting(found, Grade.SUSPECT, witness)
    sure = (
        _learned(found, limits.real_gain)
        and (confirmed or found.lost_share >= limits.alone_lost)
        and _beyond_wandering(found, limits)
        and not found.remains
        and not premature(history, found.onset_row)
    )
    return sighting(found, Grade.SURE if sure else Grade.SUSPECT, witness)


def _learned(found: Rise, share: float) -> bool:
    """Whether the run had gained this share of its start; where the best level is not positive there are no shares."""
    return found.best <= 0 or found.gained >= share * found.start


def _beyond_wandering(found: Rise, limits: Limits) -> bool:
    learned = found.gained > limits.gained_wanders * found.wander or found.excess > limits.far * found.wander
    return learned and found.excess > limits.wanders * found.wander


def _lost(found: Rise, limits: Limits) -> bool:
    if found.lost_share < (limits.lost_share if found.best > 0 else limits.lost_unscaled):
        return False
    if found.best > 0 and found.excess < limits.over_best * found.best:
        return False
    return found.excess >= limits.excursions * found.excursion


def sighting(found: Rise, grade: Grade, witness: Witness) -> Sighting:
    return Sighting(
        grade=grade,
        first_row=found.onset_row,
        first_step=found.onset_step,
        summary=(
            f"train_loss rose from its best {found.best:.4g} (step {found.best_step}) "
            f"to {found.level:.4g} and stays there"
        ),
        evidence=found.evidence() | {"validation_loss": str(witness)},
        against=found.against(),
    )
