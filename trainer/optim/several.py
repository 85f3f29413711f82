"""Two optimizers that share the work on one model, to be used as one."""

from __future__ import annotations

from torch.optim import Optimizer


class Several:
    """Looks like one optimizer to whoever steps, clears, scales or saves it."""

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        self.regroup()

    def step(self, *_nothing: object) -> None:
        for one in self.optimizers:
            one.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        for one in self.optimizers:
            one.zero_grad(set_to_none=set_to_none)

    def regroup(self) -> None:
        """Looks at the groups anew: loading a state has replaced them."""
        self.param_groups = [group for one in self.optimizers for group in one.param_groups]
