"""Optimizers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


from trainer.spec.optimizer import Optimizer as OptimizerSection
from trainer.spec.optimizer import Schedule


def build(model: nn.Module, options: OptimizerSection, device: torch.device) -> Optimizer:
    """The optimizer that the spec names; weight decay pulls on matrices only, not on biases and norms."""
    groups = _groups(model.parameters(), options.weight_decay)
    if options.kind == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)
    make = torch.optim.AdamW if options.kind == "adamw" else torch.optim.Adam
    # One kernel for all parameters: on CUDA always, on the CPU in every torch that this program accepts (2.6).
    return make(groups, lr=options.lr, betas=options.betas, fused=device.type in ("cuda", "cpu"))


def _groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [item for item in trained if item.ndim >= 2], "weight_decay": weight_decay},
        {"params": [item for item in trained if item.ndim < 2], "weight_decay": 0.0},
    ]


def learning_rate(step: int, peak: float, options: Schedule, total_steps: int) -> float:
    """The learning rate of optimizer step `step`, the first being step 1.

    Rises in a straight line to `peak` at step `warmup_steps`, arrives at its final value at step `decay_steps` and
    stays there.
    """
    if step <= options.warmup_steps:
        return peak * step / options.warmup_steps
    since = step - options.warmup_steps
    if options.kind == "constant":
        return peak
    if options.kind == "step":
        return float(peak * options.gamma ** (since // options.step_size))
    end = options.decay_steps or total_steps
    progress = min(since / max(end - options.warmup_steps, 1), 1.0)
    left = (1 + math.cos(math.pi * progress)) / 2 if options.kind == "cosine" else 1 - progress
    return peak * (options.final_lr_ratio + (1 - options.final_lr_ratio) * left)


def declared(options: spec.Spec, total_steps: int) -> dict[str, Any]:
    """The schedule as `experiment.json` tells it, so a checker can compare it with what is logged."""
    end = options.schedule.decay_steps or total_steps
    return {
        "kind": options.schedule.kind,
        "peak_lr": options.optimizer.lr,
        "warmup_steps": options.schedule.warmup_steps,
        "decay_steps": None if options.schedule.kind == "constant" else end,
        "final_lr": learning_rate(max(end, total_steps), options.optimizer.lr, options.schedule, total_steps),
    }


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
