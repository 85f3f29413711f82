"""What the validation loss says about a rise of the train loss: a second witness, where the log has one.

A train loss also rises when the data get harder, when label noise comes in, or when only hard examples are kept. Then
the model itself has not become worse, and its validation loss tells. An optimizer that has lost its way takes both up.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import StrEnum

from checker.history import History
from checker.series import median

NEAR = 3
"""Evaluations on either side of the onset that make the levels to compare."""


class Witness(StrEnum):
    """The answer of the validation loss."""

    ABSENT = "absent"
    """There is no validation curve to ask."""
    WAITING = "waiting"
    """No evaluation since the onset yet."""
    LEANS = "leans"
    """It was up as well at the one evaluation since: a spike may look like that."""
    AGREES = "agrees"
    """It went up as well, and stayed up."""
    DENIES = "denies"
    """It did not."""


SHORT_ROWS, SHORT_SHARE, SHORT_PAST = 3, 0.02, 0.1
"""How long a rise must last in any case: rows, share of the planned rows, or share of the rows so far where that is
less. Longer than a stretch of bad batches, which is up to 1 % of a run in the zoo."""

ALONE_ROWS, ALONE_SHARE, ALONE_PAST = 20, 0.05, 0.25
ALONE_EPOCHS = 5
"""The same where no validation loss confirms it: longer than the first steep part of the way back from harder data. A
row that stands for an epoch outlasts that by itself, so there fewer rows will do."""

EARLY = 0.1
"""Share of the declared plan in which a rise must have lasted as long as all that went before it. What too high a
learning rate does there is often mended when it decays (3 runs of one program of the zoo ended as well as their
twins), and the checker has seen too little of the run to know better."""


def lasted(history: History, onset_row: int, rows: int, share: float, past: float) -> bool:
    """Whether a rise since `onset_row` has lasted `rows`, and `share` of the plan or `past` of the rows so far."""
    return history.index - onset_row >= max(rows, min(share * history.planned_rows, past * history.index))


def settled(history: History, onset_row: int) -> bool:
    """Whether a rise since `onset_row` has lasted longer than a spike does."""
    return lasted(history, onset_row, SHORT_ROWS, SHORT_SHARE, SHORT_PAST)


def long_enough(history: History, onset_row: int) -> bool:
    """Whether a rise since `onset_row` has lasted so long that it needs no second witness."""
    rows = ALONE_EPOCHS if history.per_epoch else ALONE_ROWS
    return lasted(history, onset_row, rows, ALONE_SHARE, ALONE_PAST)


def premature(history: History, onset_row: int) -> bool:
    """Whether it is so early in the plan that a rise since `onset_row` may still be mended."""
    return history.progress is not None and history.progress < EARLY and 2 * onset_row > history.index


def validation(history: History, onset_row: int, *, share: float = 0.2, noises: float = 3.0) -> Witness:
    """Whether the validation loss rose since `onset_row`.

    It rose when its level is above the level before by `share` of what it had gained until then (of its own size, where
    it had gained less) and by `noises` times its noise.
    """
    val = history.val
    cut = bisect_left(val.rows, onset_row)
    if history.bad_now("val_loss"):
        return Witness.AGREES
    if not cut:
        return Witness.ABSENT
    before, since = median(val.levels[max(0, cut - NEAR) : cut]), val.levels[cut:]
    if not since:
        return Witness.WAITING
    rise = median(since[-NEAR:]) - before
    gained = max(val.start() - before, share * abs(before))
    if rise <= max(share * gained, noises * val.spread(0, cut)):
        return Witness.DENIES
    return Witness.AGREES if len(since) > 1 or long_enough(history, onset_row) else Witness.LEANS
