"""What a logger makes of the truth: the habits of real training programs, by name.

Every habit reads the same truth and forgets most of it. That some of them hide a NaN is what they really do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

EPOCHS = 40


class Look(NamedTuple):
    """One step of one run as it happened."""

    step: int
    """Counted from 1."""
    train: float
    grad: float
    lr: float
    val: float | None
    """The validation loss after this step, where there was an evaluation."""


class Plan(NamedTuple):
    """What the program knows of itself when it starts."""

    steps: int
    experiment: str


Row = dict[str, Any]
Logger = Callable[[list[Look], Plan], Iterator[Row]]


def _short(value: float) -> float:
    return round(value, 4) if math.isfinite(value) else value


def every_step(looks: list[Look], plan: Plan) -> Iterator[Row]:
    """Every step with everything, and the planned length: what our own trainer writes."""
    yield {"event": "training_start", "total_steps": plan.steps}
    for look in looks:
        yield {
            "step": look.step,
            "metrics": {"train_loss": look.train, "grad_norm": look.grad},
            "learning_rate": look.lr,
        }
        if look.val is not None:
            yield {"event": "evaluation", "step": look.step, "metrics": {"val_loss": look.val}}


def _every(stride: int) -> Logger:
    def log(looks: list[Look], plan: Plan) -> Iterator[Row]:
        """Every so many steps the loss of that one batch, and the planned length."""
        for look in looks:
            row: Row = {"global_step": look.step, "max_steps": plan.steps}
            if look.step % stride == 0 or look.step == 1:
                yield row | {"train/loss": look.train, "train/lr": look.lr, "train/grad_norm": look.grad}
            if look.val is not None:
                yield row | {"val/loss": look.val}

    return log


def loss_only(looks: list[Look], _: Plan) -> Iterator[Row]:
    """A print statement in a loop."""
    for look in looks:
        yield {"iteration": look.step, "loss": look.train}


def _hugging_face(stride: int) -> Logger:
    def log(looks: list[Look], plan: Plan) -> Iterator[Row]:
        """The mean since the last row; a loss that is not finite is replaced by that mean before it is added."""
        total, since = 0.0, 0
        for look in looks:
            if math.isfinite(look.train):
                total += look.train
            else:
                total += total / (1 + since)
            since += 1
            epoch = round(look.step / plan.steps * EPOCHS, 2)
            if look.step % stride == 0:
                row = {"loss": _short(total / since), "grad_norm": look.grad, "learning_rate": look.lr}
                yield row | {"epoch": epoch, "step": look.step}
                total, since = 0.0, 0
            if look.val is not None:
                yield {"eval_loss": look.val, "eval_runtime": 1.0, "epoch": epoch, "step": look.step}

    return log


def _lightning(stride: int) -> Logger:
    def log(looks: list[Look], _: Plan) -> Iterator[Row]:
        """A sparse table: a batch's loss now and then, the epoch's mean and the validation in rows of their own."""
        losses: list[float] = []
        epoch = 0
        for look in looks:
            losses.append(look.train)
            if look.step % stride == 0:
                yield {"epoch": epoch, "step": look.step, "train_loss_step": look.train, "lr-AdamW": look.lr}
            if look.val is not None:
                yield {"epoch": epoch, "step": look.step, "val_loss": look.val}
                yield {"epoch": epoch, "step": look.step, "train_loss_epoch": sum(losses) / len(losses)}
                losses, epoch = [], epoch + 1

    return log


def epoch(looks: list[Look], _: Plan) -> Iterator[Row]:
    """One row per epoch, as Keras' CSVLogger has it: the epoch's mean loss and the validation loss."""
    losses: list[float] = []
    number = 0
    for look in looks:
        losses.append(look.train)
        if look.val is not None:
            yield {"epoch": number, "loss": sum(losses) / len(losses), "val_loss": look.val, "learning_rate": look.lr}
            losses, number = [], number + 1


def _nano(stride: int) -> Logger:
    def log(looks: list[Look], _: Plan) -> Iterator[Row]:
        """Four decimals of one batch's loss, and now and then both losses; no learning rate, no gradient norm."""
        recent: list[float] = []
        for look in looks:
            recent.append(look.train)
            if look.step % stride == 0:
                yield {"iter": look.step, "loss": _short(look.train)}
            if look.val is not None:
                yield {"iter": look.step, "train/loss": _short(sum(recent) / len(recent)), "val/loss": _short(look.val)}
                recent = []

    return log


def smoothed(looks: list[Look], plan: Plan) -> Iterator[Row]:
    """An exponential mean (0.95) of the train loss, as progress bars show it."""
    mean = None
    for look in looks:
        mean = look.train if mean is None else 0.95 * mean + 0.05 * look.train
        if look.step % 5 == 0:
            yield {"step": look.step, "total_steps": plan.steps, "train_loss": mean, "lr": look.lr}
        if look.val is not None:
            yield {"step": look.step, "total_steps": plan.steps, "val_loss": look.val}


LOGGERS: dict[str, Logger] = {
    "every-step": every_step,
    "every-10": _every(10),
    "every-100": _every(100),
    "loss-only": loss_only,
    "hugging-face-10": _hugging_face(10),
    "hugging-face-25": _hugging_face(25),
    "lightning-20": _lightning(20),
    "epoch": epoch,
    "nano-10": _nano(10),
    "smoothed": smoothed,
}
