"""The learning rate as a pure function of the step: nothing to save, and exact after every resume."""

from __future__ import annotations

import math
from typing import Any

from trainer.spec.optimizer import Schedule


def learning_rate(step: int, peak: float, options: Schedule, total_steps: int) -> float:
    """The learning rate of optimizer step `step`, the first being step 1.

    Rises in a straight line to `peak` at step `warmup_steps`, arrives at its final value at step `decay_steps` and
    stays there. One-cycle (Smith and Topin, arXiv:1708.07120) rises and falls on half cosines instead, as torch's
    `OneCycleLR` does.
    """
    end = options.decay_steps or total_steps
    if options.kind == "one-cycle":
        return _one_cycle(step, peak, options, end)
    if step <= options.warmup_steps:
        return peak * (step / options.warmup_steps)  # in this order, so that it arrives exactly
    since = step - options.warmup_steps
    if options.kind == "constant":
        return peak
    if options.kind == "step":
        return peak * math.pow(options.gamma, since // options.step_size)
    if options.kind == "wsd":
        falls = max(min(round(end * options.decay_fraction), end - options.warmup_steps), 1)
        progress = min(max(step - (end - falls), 0) / falls, 1.0)
    else:
        progress = min(since / max(end - options.warmup_steps, 1), 1.0)
    left = (1 + math.cos(math.pi * progress)) / 2 if options.kind == "cosine" else 1 - progress
    return peak * (options.final_lr_ratio + (1 - options.final_lr_ratio) * left)


def _one_cycle(step: int, peak: float, options: Schedule, end: int) -> float:
    rises = options.pct_start * end - 1  # as torch has it; of a run of few steps nothing may be left for the rise
    first = peak / options.div_factor
    last = first / options.final_div_factor
    at = step - 1  # torch counts its first step as 0, and arrives at the end with step `end` - 1
    if at <= rises and rises > 0:
        return _between(first, peak, at / rises)
    return _between(peak, last, min((at - rises) / (end - 1 - rises), 1.0))


def _between(begin: float, end: float, progress: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * progress)) / 2


def declared(peak: float, options: Schedule, total_steps: int) -> dict[str, Any]:
    """The schedule as `experiment.json` tells it, so that a checker can compare it with what is logged.

    `final_lr` is that of the last step, which a decay may not have arrived at.
    """
    end = options.decay_steps or total_steps
    return {
        "kind": options.kind,
        "peak_lr": peak,
        "warmup_steps": round(options.pct_start * end) if options.kind == "one-cycle" else options.warmup_steps,
        "decay_steps": None if options.kind == "constant" else end,
        "final_lr": learning_rate(total_steps, peak, options, total_steps),
    }
