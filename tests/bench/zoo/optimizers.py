"""Optimizers over stacked parameters: one row per member, and no member feels another.

Each takes the flat weights `[members, size]`, the flat gradients of the same shape and the learning rates
`[members, 1]`, and changes the weights in place. `spans` says which columns are which tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Spans = Mapping[str, tuple[int, tuple[int, ...]]]
State = dict[str, Any]
Step = Callable[[State, Tensor, Tensor, Tensor, Spans], None]


def sgd(_: State, weights: Tensor, grads: Tensor, rates: Tensor, __: Spans) -> None:
    weights -= rates * grads


def momentum(state: State, weights: Tensor, grads: Tensor, rates: Tensor, _: Spans) -> None:
    """Nesterov's, 0.9."""
    speed = state.setdefault("speed", torch.zeros_like(weights))
    speed.mul_(0.9).add_(grads)
    weights -= rates * (grads + 0.9 * speed)


def adamw(state: State, weights: Tensor, grads: Tensor, rates: Tensor, _: Spans) -> None:
    """Loshchilov & Hutter 2019 with betas 0.9 and 0.99, decay 0.01."""
    first = state.setdefault("first", torch.zeros_like(weights))
    second = state.setdefault("second", torch.zeros_like(weights))
    state["step"] = step = state.get("step", 0) + 1
    first.lerp_(grads, 0.1)
    second.mul_(0.99).addcmul_(grads, grads, value=0.01)
    scale = math.sqrt(1 - 0.99**step) / (1 - 0.9**step)
    weights.mul_(1 - 0.01 * rates)
    weights -= rates * scale * first / (second.sqrt() + 1e-8)


def lion(state: State, weights: Tensor, grads: Tensor, rates: Tensor, _: Spans) -> None:
    """Chen et al. 2023: the sign of an interpolated momentum."""
    speed = state.setdefault("speed", torch.zeros_like(weights))
    weights -= rates * (torch.lerp(speed, grads, 0.1).sign() + 0.01 * weights)
    speed.lerp_(grads, 0.01)


def adafactor(state: State, weights: Tensor, grads: Tensor, rates: Tensor, spans: Spans) -> None:
    """Shazeer & Stern 2018: row and column means of the squared gradient, updates clipped to a mean square of 1."""
    state["step"] = step = state.get("step", 0) + 1
    keep = 1 - step**-0.8
    for name, (begin, shape) in spans.items():
        end = begin + math.prod(shape)
        grad = grads[:, begin:end].unflatten(1, shape)
        square = grad.square() + 1e-30
        if len(shape) == 2:
            rows = state.setdefault(f"{name}/rows", torch.zeros_like(square.mean(2)))
            columns = state.setdefault(f"{name}/columns", torch.zeros_like(square.mean(1)))
            rows.lerp_(square.mean(2), 1 - keep)
            columns.lerp_(square.mean(1), 1 - keep)
            second = (rows / rows.mean(1, keepdim=True))[:, :, None] * columns[:, None, :]
        else:
            second = state.setdefault(name, torch.zeros_like(square)).lerp_(square, 1 - keep)
        update = (grad * second.clamp(min=1e-30).rsqrt()).flatten(1)
        update /= update.square().mean(1, keepdim=True).sqrt().clamp(min=1)
        weights[:, begin:end] -= rates * update


OPTIMIZERS: dict[str, Step] = {"sgd": sgd, "momentum": momentum, "adamw": adamw, "lion": lion, "adafactor": adafactor}
