"""What adapters of frameworks on torch ask: memory, gradient, whether a model is sound, the word of all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from contract import Kill
from trainer.pace import Pace


def memory_mb() -> float | None:
    """The most GPU memory that was used so far; None without a GPU."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return None
    return round(torch.cuda.max_memory_allocated() / 2**20, 1)


def gradient_norm(optimizer: Any) -> Tensor | None:
    """The norm of all gradients that an optimizer is about to use, still on its device; None where it is not whole.

    A gradient of which this process has a part only would need the others: a log asks nobody for that.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    whole = all(type(gradient) is Tensor and not gradient.is_sparse for gradient in gradients)
    if not gradients or not whole:
        return None
    return torch.nn.utils.get_total_norm(gradients).detach()


def sound(model: nn.Module) -> bool:
    """Whether all weights are finite, on all processes; called by all of them. It waits for the device."""
    finite = all(map(_finite, model.parameters()))
    if not _several():
        return finite
    told = torch.tensor(float(finite), device=next(model.parameters()).device)
    dist.all_reduce(told, dist.ReduceOp.MIN)
    return bool(told)


def _finite(parameter: Tensor) -> bool:
    weights = parameter.detach()
    local: Tensor = weights.to_local() if hasattr(weights, "to_local") else weights
    if (
        not local.is_floating_point() or local.dtype.itemsize == 1
    ):  # quantized: it learns nothing, and torch cannot tell
        return True
    return bool(local.isfinite().all())


def loss_scale(scaler: Any) -> dict[str, float]:
    """The scale of a loss scaler, under the name by which a checker knows that steps may be skipped."""
    return {} if scaler is None else {"loss_scale": float(scaler.get_scale())}


class Ranks:
    """The processes of one training, which have to stop at the same step."""

    def __init__(self) -> None:
        self._pace = Pace()

    def agreed(self, ask: Callable[[int], Kill | None], step: int) -> Kill | None:
        """What `ask` says on rank 0, on all ranks; called by all of them at each step. They look twice a second."""
        if not _several():
            return ask(step)
        if not self._pace.due(step):
            return None
        told: list[Any] = [None, 0]
        if dist.get_rank() == 0:
            kill = ask(step)
            told = [kill and asdict(kill), self._pace.next(step)]
        dist.broadcast_object_list(told, src=0)
        self._pace.agree(told[1])
        return None if told[0] is None else Kill(**told[0])


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack([value.float() for value in values]).mean()
