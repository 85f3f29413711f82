"""The train loss has not left its start.

What it sees: a train loss whose level, late in the curve, is still within 2 % of where it began.

Why it matters: a run that has learned nothing in its first tenth almost never starts to later: the labels are
shuffled, the learning rate is far off, the parameters are not in the optimizer, or the network is dead.

How it decides: a curve that flattens out at the end of a good run is healthy and is not reported. Only a run that
gained less than 2 % of its start is suspected: after 15 epochs, after a tenth of the declared plan (40 rows at least,
and beyond twice the warm-up), or after 200 rows where no length is declared. Noise larger than that is told as a
doubt.

What to do: try to overfit a single batch; if that fails, check that the optimizer holds the parameters and that
inputs and labels belong together. Otherwise raise the learning rate threefold, or lower it tenfold if the loss only
shakes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.series import median


@dataclass(frozen=True)
class Limits:
    min_epochs: int = 20
    """Rows for a log of one row per epoch; the corpus calls 15 flat rows a plateau."""
    min_rows: int = 40
    """Rows for other logs whose length is declared, so that a warm-up does not count."""
    min_rows_unplanned: int = 200
    """Rows where no length is declared: two public runs of 4,000 and 6,000 rows began to learn after 45 and 146."""
    min_progress: float = 0.1
    """Of the declared length. SageMaker, AUTOTRAINER and the fast-fail seed all judge before a third of the plan."""
    improvement: float = 0.02
    """Of the start: the corpus' definition."""
    noises: float = 1.5
    """What counts as no improvement where the noise of single values is larger: the start is a median of 5, whose
    standard error is 0.54 of that noise."""
    chance: float = 0.005
    """Relative distance from the logarithm of a round number of classes at which a classifier says nothing. Two classes
    are left out: a generator that is well matched costs ln 2."""
    near: float = 0.05
    """Share of the start that may then have been gained: what untrained logits cost above chance."""
    noisy: float = 0.1
    """Share of the start beyond which noise hides too much to say anything."""


LIMITS = Limits()


_CLASSES = (*range(3, 21), 100, 200, 1000)


def _at_chance(start: float, now: float, limits: Limits) -> bool:
    """Whether the loss stands at that of a guess, about where it began."""
    return now > (1 - limits.near) * start and any(
        abs(now - math.log(k)) < limits.chance * math.log(k) for k in _CLASSES
    )


def _enough(history: History, limits: Limits) -> int:
    """Values of the train loss before it is judged: fewer where epochs or evaluations say how far the run is."""
    if max(history.epoch or 0, history.val.count) >= limits.min_epochs:
        return limits.min_epochs if history.per_epoch else limits.min_rows
    return limits.min_rows if history.progress is not None else limits.min_rows_unplanned


def detect(history: History, limits: Limits) -> Sighting | None:
    """A loss that never left its start."""
    train = history.train
    progress = history.progress
    if train.count < _enough(history, limits) or not len(train.levels) or history.era(train):
        return None
    warm = history.plan.experiment.schedule.get("warmup_steps") or 0
    if (progress is not None and progress < limits.min_progress) or (history.step or 0) < 2 * warm:
        return None
    start, now = train.start(), median(train.levels[-max(5, len(train.levels) // 5) :])
    if start - now >= limits.noisy * abs(start):
        return None  # gained already, whatever the best is
    best = train.best()[0]
    gained = start - min(now, best)
    flat = max(limits.improvement * abs(start), limits.noises * train.spread())
    if abs(start) < 1e-9 or flat > limits.noisy * abs(start):
        return None
    if (gained >= flat or now - best > flat) and not _at_chance(start, now, limits):
        return None
    return Sighting(
        grade=Grade.SUSPECT,
        first_row=train.first_row,
        first_step=train.steps[0],
        summary=f"train_loss is {now:.4g} after {train.count} rows; it started at {start:.4g}",
        evidence={"start": start, "best": best, "level": now, "gained_share": gained / abs(start), "rows": train.count},
        against=("the noise of the curve is larger than the improvement asked for",)
        if train.spread() > limits.improvement * abs(start)
        else (),
    )
