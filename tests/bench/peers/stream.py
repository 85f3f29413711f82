"""A recorded run as points: the checker's own reader, so that peers see the rows that it sees, under the same names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import contract
from checker import plan, replay
from checker.events import Plan, Row
from checker.history import NOT_MEASURED
from checker.names import ALIASES, GRAD_NORM, LR, SUMMARY_MARKS, TRAIN_LOSS, VAL_LOSS
from peers.base import EPOCHS, FEW, Point, Setup

ACCURACY, VAL_ACCURACY = "accuracy", "val_accuracy"

_ACCURACIES = {
    **dict.fromkeys(("accuracy", "acc", "train_accuracy", "train_acc", "training accuracy"), ACCURACY),
    **dict.fromkeys(("val_accuracy", "val_acc", "valid_acc", "eval_accuracy", "val accuracy"), VAL_ACCURACY),
    **dict.fromkeys(("test_accuracy", "test_acc"), VAL_ACCURACY),
}


def read(path: Path, total_rows: int | None = None) -> tuple[Setup, list[Point]]:
    """The points of a run folder or bare file, and what was known before its first row.

    Hosts of the peers know how long they will train; a bare log often does not say. Then the peers are given the
    length of the log as the planned length, which no past-only checker has: a favour to them, not to ours.
    """
    folder = path if path.is_dir() else None
    file = path / contract.METRICS if folder else path
    rows = [row for row in replay.lines(file.read_bytes()) if isinstance(row, Row) and _measured(row)]
    declared = plan.load(folder)[0] if folder else Plan()
    names = _roles(rows)
    length = total_rows or len(rows)
    points = [_point(row, names, declared, length) for row in rows]
    return Setup(length, VAL_LOSS in names.values(), _epochs(rows), {}), points


def _epochs(rows: list[Row]) -> int:
    """The epochs that the log names; a run of few long ones is asked more often than that."""
    named = len({math.floor(row.epoch) for row in rows if row.epoch is not None})
    return named if named >= FEW else EPOCHS


def _measured(row: Row) -> bool:
    return row.event not in NOT_MEASURED and not any(mark in row.values for mark in SUMMARY_MARKS)


def _roles(rows: list[Row]) -> dict[str, str]:
    """Which name plays which role, the first taken staying; a log with no train loss gives its other loss to it."""
    taken: dict[str, str] = {}
    seen: set[str] = set()
    for row in rows:
        new = [name for name in row.values if name not in seen]
        if not new:
            continue
        seen.update(new)
        for name in sorted(new, key=lambda name: ALIASES.get(name.lower(), ("", 99))[1]):
            role = ALIASES.get(name.lower(), (_ACCURACIES.get(name.lower()), 0))[0]
            if role and role not in taken:
                taken[role] = name
    return {name: role for role, name in taken.items()}


def _point(row: Row, names: Mapping[str, str], declared: Plan, length: int) -> Point:
    values = {names[name]: value for name, value in row.values.items() if name in names}
    train, val = values.get(TRAIN_LOSS), values.get(VAL_LOSS)
    total = declared.experiment.total_steps or row.total_steps
    return Point(
        row=row.index,
        step=row.step,
        epoch=row.epoch,
        total_steps=total,
        done=_done(row, total, declared.experiment.total_epochs or row.total_epochs, length),
        train_loss=train if TRAIN_LOSS in names.values() else val,
        val_loss=val,
        lr=values.get(LR),
        grad_norm=values.get(GRAD_NORM),
        accuracy=_share(values.get(ACCURACY)),
        val_accuracy=_share(values.get(VAL_ACCURACY)),
    )


def _done(row: Row, total_steps: int | None, total_epochs: int | None, length: int) -> float:
    if total_steps and row.step is not None:
        return row.step / total_steps
    if total_epochs and row.epoch is not None:
        return row.epoch / total_epochs
    return (row.index + 1) / length


def _share(accuracy: float | None) -> float | None:
    """An accuracy as a share of 1; some logs have per cent."""
    return accuracy / 100 if accuracy is not None and accuracy > 1 else accuracy
