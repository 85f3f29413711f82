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
    found = _wide_enough(TASKS[name], data.outputs)
    if data.padded or not data.task:  # nobody knows whether your own data is padded
        return replace(found, mean=lambda logits, targets: found.losses(logits, targets).mean())
    return found


def _wide_enough(task: Task, outputs: int) -> Task:
    """The task with logits for all that the data holds; on a GPU one class too few ends in an unreadable assertion."""
    if task.name == "regression" or not outputs:
        return task

    def checked(score: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        def wide_enough(logits: Tensor, targets: Tensor) -> Tensor:
            if logits.ndim > 1 and logits.shape[-1] < outputs:
                raise SpecError(f"model.kind: gives {logits.shape[-1]} logits; the data has {outputs} classes")
            return score(logits, targets)

        return wide_enough

    return replace(task, losses=checked(task.losses), mean=checked(task.mean))


def _own(function: Callable[[Tensor, Tensor], Tensor], name: str) -> Task:
    def losses(logits: Tensor, targets: Tensor) -> Tensor:
        found: object = function(logits, targets)
        if not isinstance(found, Tensor) or found.shape != targets.shape[:1]:
            what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise SpecError(f"task = {name!r}: gives {what}; wanted is a loss for each of the {len(targets)} samples")
        return found

    return Task(name, losses, lambda logits, targets: losses(logits, targets).mean(), _nothing, _no_more, ())


def _shaped(fits: bool, task: str, logits: Tensor, targets: Tensor, wanted: str) -> None:
    """Sees that logits answer the targets.

    Raises:
        SpecError: they do not.
    """
    if not fits:
        kind = str(targets.dtype).removeprefix("torch.")
        found = f"the model gives {tuple(logits.shape)} for targets of {tuple(targets.shape)}, {kind}"
        raise SpecError(f"task = {task!r}: {found}; wanted are {wanted}, or a function of your own")


# -------------------------------------------------------------------------------------------------------- language


def _language(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over the bytes of each sample, in nats; padding does not count."""
    fits = logits.ndim == 3 and logits.shape[:2] == targets.shape and not targets.is_floating_point()
    _shaped(fits, "language", logits, targets, "[samples, tokens, vocabulary] and whole numbers [samples, tokens]")
    wanted = targets.long()
    each = functional.cross_entropy(logits.transpose(1, 2).float(), wanted, reduction="none", ignore_index=IGNORED)
    return each.sum(1) / (wanted != IGNORED).sum(1).clamp(min=1)


def _language_mean(logits: Tensor, targets: Tensor) -> Tensor:
    """Over all bytes, which is the mean over samples too while no sample is padded."""
    return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def _language_sums(logits: Tensor, targets: Tensor) -> Sums:
    flat, wanted = logits.flatten(0, 1), targets.long().flatten()
    nats = functional.cross_entropy(flat.float(), wanted, reduction="sum", ignore_index=IGNORED)
    return {"nats": nats, "right": (flat.argmax(1) == wanted).sum(), "bytes": (wanted != IGNORED).sum()}


def _language_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    if not sums["bytes"]:
        return {}
    return {"bits_per_byte": sums["nats"] / sums["bytes"] / math.log(2), "accuracy": sums["right"] / sums["bytes"]}


# -------------------------------------------------------------------------------------------------- classification


def _classification(logits: Tensor, targets: Tensor) -> Tensor:
    fits = logits.ndim == 2 and targets.shape == logits.shape[:1] and not targets.is_floating_point()
    _shaped(fits, "classification", logits, targets, "[samples, classes] and whole numbers [samples]")
    return functional.cross_entropy(logits.float(), targets.long(), reduction="none")


def _classification_mean(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), targets)


def _classification_sums(logits: Tensor, targets: Tensor) -> Sums:
    return {"right": (logits.argmax(1) == targets).sum()}


def _classification_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    return {"accuracy": sums["right"] / sums["samples"]}


# ------------------------------------------------------------------------------------------------------ regression


def _regression(values: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error of each sample."""
    error = (_like(values, targets) - targets.float()).square()
    return error.flatten(1).mean(1) if error.ndim > 1 else error


def _regression_mean(values: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(_like(values, targets), targets.float())


def _like(values: Tensor, targets: Tensor) -> Tensor:
    """Values in the shape of the targets: [samples] and [samples, 1] are the same."""
    fits = values.numel() == targets.numel() and len(values) == len(targets)
    _shaped(fits, "regression", values, targets, "as many values as targets")
    return values.float().reshape(targets.shape)


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
