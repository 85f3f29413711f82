"""Lion (Chen et al. 2023, arXiv:2302.06675): the sign of an interpolated momentum. torch has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lion(Optimizer):
    """w -= lr (sign(b1 m + (1 - b1) g) + decay w); m = b2 m + (1 - b2) g.

    Every weight moves by `lr` at each step, so rates are 3 to 10 times smaller than AdamW's (section 5 of the paper).
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Moves the weights by one step; there is no closure."""
        if closure is not None:
            raise ValueError("Lion evaluates no closure")
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved:
                self._move(moved, group)

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        near, far = group["betas"]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        momenta = [self._momentum(weight) for weight in weights]
        update = torch._foreach_lerp(gradients, momenta, near)  # noqa: SLF001 - as torch's own optimizers
        torch._foreach_sign_(update)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, update, alpha=-group["lr"])
        torch._foreach_lerp_(momenta, gradients, 1 - far)

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if not state:
            state["exp_avg"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        momentum: Tensor = state["exp_avg"]
        return momentum
