"""An exponential moving average of the weights: smoother than the weights themselves, and often better."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Ema:
    """average = decay average + (1 - decay) weights, after every step; buffers are taken as they are.

    torch's `AveragedModel` asks the device at each step whether it has begun; this one never waits for it.

    Attributes:
        model: a copy of the model with the averaged weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(requires_grad=False)
        self._decay = decay
        self._averages, self._whole = _parted(self.model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights of `model`."""
        weights, whole = _parted(model)
        torch._foreach_lerp_(self._averages, weights, 1 - self._decay)
        for mine, theirs in zip(self._whole, whole, strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)


def _parted(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """What is averaged, each tensor once however many names it has, and what is taken as it is."""
    weights = [item.detach() for item in model.parameters() if item.is_floating_point()]
    known = {id(item) for item in model.parameters() if item.is_floating_point()}
    others = [item for item in model.state_dict(keep_vars=True).values() if isinstance(item, Tensor)]
    return weights, [item.detach() for item in others if id(item) not in known]
