"""The train loss has not left its start.

What it sees: a train loss whose last quarter lies where its first quarter lay, and where it began.

Why it matters: a run that has learned nothing in its first tenth almost never starts to later: the labels are
shuffled, the learning rate is far off, the parameters are not in the optimizer, or the network is dead.

How it decides: a curve that flattens out at the end of a good run is healthy and is not reported, so the start counts
as much as the end. Between the median of the first quarter and that of the last there must be less than 2 %, or less
than two standard errors where the noise is larger; noise that would hide a tenth of the start is called unknown. The
first rows must not lie higher by more than that and twice the noise, since a fast run learns within them. A
classifier that stands at the logarithm of its number of classes says nothing either, wherever it passed. A run is
looked at after 20 epochs or evaluations, after a tenth of the declared plan (40 rows at least, and beyond twice the
warm-up), or after 200 rows where nothing tells how far it is. In the zoo's tune and validate splits it named 166 of
181 such runs and 6 of 1,851 healthy ones; most of those it misses gained 4 to 10 % from their output layer alone.

What to do: try to overfit a single batch; if that fails, check that the optimizer holds the parameters and that
inputs and labels belong together. Otherwise raise the learning rate threefold, or lower it tenfold if the loss only
shakes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History
from checker.series import Series, median


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
    errors: float = 2.0
    """What counts as no improvement where the noise is larger, in standard errors of the difference of two medians."""
    unknown: float = 0.1
    """Share of the start beyond which those errors hide too much to say anything."""
    first_noises: float = 2.0
    """How far above the last quarter the highest of the first three values may lie by chance, in units of the noise."""
    dip_noises: float = 1.5
    """How far below it the lowest running median may lie by chance: 2.5 standard errors of a median of 5. A generator
    wanders further on its way back to where it began."""
    chance: float = 0.005
    """Relative distance from the logarithm of a round number of classes at which a classifier says nothing. Two classes
    are left out: a generator that is well matched costs ln 2."""
    near: float = 0.05
    """Share of the start that may then have been gained: what untrained logits cost above chance."""


LIMITS = Limits()

_CLASSES = (*range(3, 21), 100, 200, 1000)


def detect(history: History, limits: Limits) -> Sighting | None:
    """A loss that never left its start."""
    train, progress = history.train, history.progress
    if len(train.levels) < 8 or train.count < _enough(history, limits) or history.era(train):
        return None
    warm = history.plan.experiment.schedule.get("warmup_steps") or 0
    if (progress is not None and progress < limits.min_progress) or (history.step or 0) < 2 * warm:
        return None
    quarter = len(train.levels) // 4
    start, now = train.start(), median(train.levels[-quarter:])
    if abs(start) < 1e-9 or start - now > limits.unknown * abs(start):
        return None  # gained already
    if not _flat(train, start, now, limits) and not _at_chance(start, now, limits):
        return None
    gained = start - now
    return Sighting(
        grade=Grade.SUSPECT,
        first_row=train.first_row,
        first_step=train.steps[0],
        summary=f"train_loss is {now:.4g} after {train.count} rows; it started at {start:.4g}",
        evidence={
            "start": start,
            "best": train.best()[0],
            "level": now,
            "gained_share": gained / abs(start),
            "rows": train.count,
        },
        against=("the noise of the curve is larger than the improvement asked for",)
        if train.spread() > limits.improvement * abs(start)
        else (),
    )


def _enough(history: History, limits: Limits) -> int:
    """Values of the train loss before it is judged: fewer where epochs or evaluations say how far the run is."""
    if max(history.epoch or 0, history.val.count) >= limits.min_epochs:
        return limits.min_epochs if history.per_epoch else limits.min_rows
    return limits.min_rows if history.progress is not None else limits.min_rows_unplanned


def _flat(train: Series, start: float, now: float, limits: Limits) -> bool:
    """Whether the last quarter lies where the first quarter and the first values lay."""
    quarter, noise = len(train.levels) // 4, train.spread()
    # The standard error of a median of n values is 1.25 / sqrt(n) of their deviation; here are two of them.
    chance = limits.errors * 1.25 * noise * math.sqrt(2 / quarter)
    room = max(limits.improvement * abs(start), chance)
    if room > limits.unknown * abs(start):
        return False
    first = max(train.levels[:3])
    return (
        abs(median(train.levels[:quarter]) - now) < room
        and first - now < room + limits.first_noises * noise
        and now - train.best()[0] < room + limits.dip_noises * noise
    )


def _at_chance(start: float, now: float, limits: Limits) -> bool:
    """Whether the loss stands at that of a guess, about where it began."""
    return now > (1 - limits.near) * start and any(
        abs(now - math.log(k)) < limits.chance * math.log(k) for k in _CLASSES
    )
