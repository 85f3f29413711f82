"""Two optimizers that share the work on one model, to be used as one."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer


class Several:
    """Looks like one optimizer to whoever steps, clears, scales or saves it."""

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        self.param_groups = [group for one in optimizers for group in one.param_groups]

    def step(self, *_nothing: object) -> None:
        for one in self.optimizers:
            one.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        for one in self.optimizers:
            one.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"several": [one.state_dict() for one in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for one, saved in zip(self.optimizers, state["several"], strict=True):
            one.load_state_dict(saved)
        self.param_groups = [group for one in self.optimizers for group in one.param_groups]
