"""NaN or infinity in a loss.

What it sees: a train or validation loss that is NaN or infinite, or a null where a number has always stood; also any
score of a fold (`fold_end`) that is not finite.

Why it matters: one optimizer step on a NaN gradient makes every weight NaN. Nothing that is computed afterwards means
anything, and the run cannot come back by itself.

How it decides: the first NaN of a train loss that was finite before is certain, since of 158 healthy or recovered
public runs not one had a NaN that went away. Two things call for three in a row instead: a gradient norm that is
finite in the same row (the step was probably skipped) and a loss scaler at work, or an earlier non-finite value that
did recover. Infinity also needs three in a row, and longer when nothing finite came before it: half-precision runs
are known to print infinity for their first epochs and then train normally. A validation loss must be non-finite three
times running. A score of a fold is told at once and never killed for, because the next fold trains a model of its
own. In the zoo's tune and validate splits it killed 99 of 112 runs that became NaN (hidden_nan the others),
none of 1,851 healthy ones, and one of 258 that got over a fault.

What to do: start again from the last good checkpoint with a lower learning rate, clip gradients, and look for log(0),
division by zero or half-precision overflow in the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.folds import BadScore
from checker.history import Bad, History
from checker.names import GRAD_NORM, TRAIN_LOSS, VAL_LOSS


@dataclass(frozen=True)
class Limits:
    sure_rows: int = 1
    """Rows in a row that settle a case without doubts: not one healthy or recovered public run had a NaN that left."""
    doubtful_rows: int = 3
    """Rows in a row that settle a doubtful case: the floor rule of the public corpus, with no false kill there."""
    from_start_rows: int = 12
    """As above when nothing finite came before: one healthy public run printed infinity for its first 8 epochs."""
    other_rows: int = 3
    """Rows in a row before a metric that is no loss is mentioned: ratios are often undefined for a moment."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """The non-finite loss that stands in the last row, if any."""
    for role in (TRAIN_LOSS, VAL_LOSS):
        bad = history.bad_now(role)
        if bad is not None:
            return _loss(history, role, bad, limits)
    if history.folds is not None and history.folds.bad is not None:
        return _score(history, history.folds.bad, history.folds.bad_rows)
    for name, bad in history.bad.items():
        if name != GRAD_NORM and bad.streak.count >= limits.other_rows and bad.finite_before:
            return _sighting(Grade.NOTE, name, bad, ())
    return None


def _loss(history: History, role: str, bad: Bad, limits: Limits) -> Sighting:
    doubts = _doubts(history, role, bad)
    needed = limits.doubtful_rows if doubts else limits.sure_rows
    if not bad.finite_before:
        needed = limits.from_start_rows
    final = history.tick is not None and history.tick.final
    sure = bad.streak.count >= needed or (final and bad.finite_before > 0)
    return _sighting(Grade.SURE if sure else Grade.SUSPECT, role, bad, doubts)


def _doubts(history: History, role: str, bad: Bad) -> tuple[str, ...]:
    """What speaks against the weights being poisoned."""
    doubts = []
    if role == VAL_LOSS:
        doubts.append("the train loss is still finite: the fault may lie in the evaluation alone")
    if bad.last is None:
        doubts.append("the log has null where a number stood before; the writer may mean something else by it")
    elif math.isinf(bad.last):
        doubts.append("infinity, not NaN: one overflowing batch can do this without harm to the weights")
    if role == TRAIN_LOSS and history.grad.last_row == history.index and history.grad.count:
        doubts.append(f"the gradient norm in the same row is finite ({history.grad.last:.4g})")
    if bad.streak.ended:
        doubts.append(f"an earlier non-finite value went away again ({bad.streak.ended} times)")
    if "loss_scale" in history.metric_names:
        doubts.append("a loss scaler is at work and may have skipped the step")
    return tuple(doubts)


def _score(history: History, bad: BadScore, rows: int) -> Sighting:
    """A score of a fold, or a mean over folds, that is no number."""
    where = "the summary of the folds before" if bad.fold is None else f"fold {bad.fold}"
    of = "" if bad.fold is None or not bad.folds else f" of 0 to {bad.folds - 1}"
    return Sighting(
        grade=Grade.SUSPECT,
        first_row=bad.row,
        first_step=history.step,
        summary=f"{bad.name} is {bad.value} in {where}{of}",
        evidence={"metric": bad.name, "value": str(bad.value), "fold": bad.fold, "rows_with_such_a_score": rows},
        against=("every fold trains a model of its own: the others need not be hurt",),
    )


def _sighting(grade: Grade, name: str, bad: Bad, doubts: tuple[str, ...]) -> Sighting:
    value = "null" if bad.last is None else str(bad.last)
    times = "once" if bad.streak.count == 1 else f"{bad.streak.count} times in a row"
    return Sighting(
        grade=grade,
        first_row=bad.streak.first_row,
        first_step=bad.streak.first_step,
        summary=f"{name} is {value}, {times}",
        evidence={
            "metric": name,
            "value": value,
            "rows_in_a_row": bad.streak.count,
            "finite_before": bad.finite_before,
        },
        against=doubts,
    )
