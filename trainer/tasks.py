"""What targets mean: the loss of a batch, and what an evaluation adds up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional

from trainer import spec
from trainer.data import Data
from trainer.data.samples import IGNORED
from trainer.errors import SpecError
from trainer.named import load

Sums = dict[str, Tensor]


@dataclass(frozen=True)
class Task:
    """How well logits answer targets."""

    name: str
    losses: Callable[[Tensor, Tensor], Tensor]
    """The loss of each sample, [samples]."""
    mean: Callable[[Tensor, Tensor], Tensor]
    """Their mean: the same as `losses(…).mean()`, in fewer operations."""
    sums: Callable[[Tensor, Tensor], Sums]
    """What is added up over the batches of an evaluation, beside `loss`, the sum of `losses`."""
    metrics: Callable[[Mapping[str, float]], dict[str, float]]
    """Metrics from those sums and the number of `samples`."""
    names: tuple[str, ...]
    """What `metrics` gives."""


def build(options: spec.Spec, data: Data) -> Task:
    """The task that the spec names, or that follows from the data.

    Raises:
        SpecError: there is none, or the data is not made for it.
    """
    name = data.task if options.task == "auto" else options.task
    if not name:
        raise SpecError("task = 'auto': your own data does not say; give language, classification or regression")
    if name not in TASKS:
        return _own(load(name, "task"), name)
    if data.task and data.task != name:
        raise SpecError(f"task = {name!r}: the data is made for {data.task}")
    found = TASKS[name]
    return replace(found, mean=lambda logits, targets: found.losses(logits, targets).mean()) if data.padded else found


def _own(losses: Callable[[Tensor, Tensor], Tensor], name: str) -> Task:
    return Task(name, losses, lambda logits, targets: losses(logits, targets).mean(), _nothing, _no_more, ())


# -------------------------------------------------------------------------------------------------------- language


def _language(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over the bytes of each sample, in nats; padding does not count."""
    each = functional.cross_entropy(logits.transpose(1, 2).float(), targets, reduction="none", ignore_index=IGNORED)
    return each.sum(1) / (targets != IGNORED).sum(1)


def _language_mean(logits: Tensor, targets: Tensor) -> Tensor:
    """Over all bytes, which is the mean over samples too while no sample is padded."""
    return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def _language_sums(logits: Tensor, targets: Tensor) -> Sums:
    flat, wanted = logits.flatten(0, 1), targets.flatten()
    nats = functional.cross_entropy(flat.float(), wanted, reduction="sum", ignore_index=IGNORED)
    return {"nats": nats, "right": (flat.argmax(1) == wanted).sum(), "bytes": (wanted != IGNORED).sum()}


def _language_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    return {"bits_per_byte": sums["nats"] / sums["bytes"] / math.log(2), "accuracy": sums["right"] / sums["bytes"]}


# -------------------------------------------------------------------------------------------------- classification


def _classification(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def _classification_mean(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), targets)


def _classification_sums(logits: Tensor, targets: Tensor) -> Sums:
    return {"right": (logits.argmax(1) == targets).sum()}


def _classification_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    return {"accuracy": sums["right"] / sums["samples"]}


# ------------------------------------------------------------------------------------------------------ regression


def _regression(values: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error of each sample."""
    error = (values.float().reshape(targets.shape) - targets).square()
    return error.flatten(1).mean(1) if error.ndim > 1 else error


def _regression_mean(values: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(values.float().reshape(targets.shape), targets)


def _nothing(_logits: Tensor, _targets: Tensor) -> Sums:
    return {}


def _no_more(_sums: Mapping[str, float]) -> dict[str, float]:
    return {}


TASKS = {
    "language": Task(
        "language", _language, _language_mean, _language_sums, _language_metrics, ("bits_per_byte", "accuracy")
    ),
    "classification": Task(
        "classification",
        _classification,
        _classification_mean,
        _classification_sums,
        _classification_metrics,
        ("accuracy",),
    ),
    "regression": Task("regression", _regression, _regression_mean, _nothing, _no_more, ()),
}
