"""NaN that the log does not show.

What it sees: a finite loss beside a gradient norm that is NaN row after row, a loss that drops to exactly 0, or a
loss that repeats the same digits for ever.

Why it matters: some loggers replace a NaN loss by a running mean or by 0 (Hugging Face's Trainer does so by default),
and some loops skip every step once the gradients are gone. The curve looks calm while nothing is trained any more, so
the run wastes its whole remaining budget without a single bad number in its loss.

How it decides: a NaN gradient norm 3 times in a row beside a loss that is frozen or 0, or 10 times beside any loss,
is certain. So is a loss of exactly 0 for 20 rows right after a level above a tenth of the start, unless a validation
loss is finite since: real losses approach 0, but a confident model may get a whole batch right (up to 6 rows in a row
in the zoo). A loss that repeats itself exactly for 20 rows and 2 % of the run is certain only where it usually
changed from row to row, has more than four digits and has not fallen below half of the start: a small problem may
simply be solved. An infinite gradient norm is normal while a loss scaler looks for its scale (16 halvings from
65,536), so it needs 40. In the zoo's tune and validate splits it killed 13 of 112 runs that became NaN, before a NaN
was printed if one was, and none of 1,851 healthy ones.

What to do: look at the unfiltered loss (`logging_nan_inf_filter=False` in Hugging Face's Trainer), return to the last
checkpoint with a finite gradient norm, and treat it as NaN: lower learning rate, clipping, bf16 instead of fp16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import Bad, History, Streak
from checker.names import GRAD_NORM, TRAIN_LOSS, VAL_LOSS


@dataclass(frozen=True)
class Limits:
    nan_grad_rows: int = 3
    """NaN gradient norms in a row that are reported, and certain beside a frozen loss."""
    nan_grad_sure_rows: int = 10
    """Certain beside any loss: with NaN gradients in ten steps running, either all were skipped or all poisoned."""
    inf_grad_rows: int = 40
    """More than twice the 16 halvings that a scaler needs from 65,536 down to 1."""
    zero_rows: int = 20
    """A batch that a confident model gets right prints 0; in the zoo up to 6 of them came in a row."""
    zero_fall: float = 0.1
    """Share of the start that the level before the zeros must exceed."""
    frozen_rows: int = 20
    frozen_share: float = 0.02
    usual_change: float = 0.2
    """A loss that repeated itself in more than this share of the rows before is printed with few digits."""
    unsolved: float = 0.5
    """Share of the start above which a frozen loss has not simply been solved."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """Indirect evidence of NaN in the last rows, if any."""
    bad = history.bad_now(GRAD_NORM)
    if bad is not None and history.bad_now(TRAIN_LOSS) is None:
        found = _gradient(history, bad, limits)
        if found is not None:
            return found
    return _zero(history, limits) or _frozen(history, limits)


def _gradient(history: History, bad: Bad, limits: Limits) -> Sighting | None:
    rows = bad.streak.count
    if bad.nan < limits.nan_grad_rows:
        if rows < limits.inf_grad_rows:
            return None
        against = ("a loss scaler may still be searching for its scale",)
        return _sighting(Grade.SUSPECT, bad.streak, f"grad_norm has been infinite for {rows} rows", rows, against)
    still = history.frozen.count >= 2 or history.zero[TRAIN_LOSS].count >= 2
    sure = bad.finite_before > 0 and (still or bad.nan >= limits.nan_grad_sure_rows)
    doubts = () if still else ("the loss still changes from row to row",)
    told = f"grad_norm is NaN for {rows} rows while the loss stays finite"
    return _sighting(Grade.SURE if sure else Grade.SUSPECT, bad.streak, told, rows, doubts)


def _zero(history: History, limits: Limits) -> Sighting | None:
    zeros = history.zero[TRAIN_LOSS]
    train = history.train
    if zeros.count < limits.zero_rows or train.count <= zeros.count or not len(train.levels):
        return None
    before = train.levels[max(0, train.block_at(zeros.first_row) - 1)]
    if before <= limits.zero_fall * abs(train.start()):
        return None
    if history.val.last_row > zeros.first_row and history.bad_now(VAL_LOSS) is None:
        return None  # the validation loss is finite: so are the weights
    told = f"train_loss jumped from {before:.4g} to exactly 0 and has been 0 for {zeros.count} rows"
    return _sighting(Grade.SURE, zeros, told, zeros.count, ())


def _frozen(history: History, limits: Limits) -> Sighting | None:
    frozen, train = history.frozen, history.train
    needed = max(limits.frozen_rows, limits.frozen_share * train.count)
    before = train.count - frozen.count
    if frozen.count < needed or (frozen.total - frozen.count) > limits.usual_change * before or before < 3:
        return None
    if train.last == 0.0:
        return None
    unsolved = train.last > limits.unsolved * train.start() or not math.isfinite(train.last)
    against = () if unsolved else ("the loss is far below its start: the problem may simply be solved",)
    told = f"train_loss has been exactly {train.last:.6g} for {frozen.count + 1} rows"
    coarse = train.last == float(f"{train.last:.4g}")  # printed with so few digits, a loss that moves can look frozen
    grade = Grade.SURE if unsolved and not coarse else Grade.NOTE
    return _sighting(grade, frozen, told, frozen.count, against)


def _sighting(grade: Grade, streak: Streak, summary: str, rows: int, against: tuple[str, ...]) -> Sighting:
    return Sighting(
        grade=grade,
        first_row=streak.first_row,
        first_step=streak.first_step,
        summary=summary,
        evidence={"rows_in_a_row": rows},
        against=against,
    )
