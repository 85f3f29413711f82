"""Online hard-example mining (Shrivastava et al. 2016, arXiv:1604.03540): only what the model finds hard teaches it."""

from __future__ import annotations

import math

from torch import Tensor

from trainer.spec.train import Mining

_ROUNDING = 1e-9
"""100 * 0.07 is 7.000000000000001, and no reason to keep eight."""


def kept(samples: int, options: Mining) -> int:
    """How many samples of a micro-batch give a gradient."""
    wanted = math.ceil(samples * options.keep_ratio - _ROUNDING)
    return min(max(wanted, options.min_keep), samples)


def hardest(losses: Tensor, options: Mining, step: int) -> Tensor:
    """The mean loss of the samples with the largest losses; of all of them during the warm-up.

    Args:
        losses: of each sample of a micro-batch, [samples].
        options: the spec's.
        step: the optimizer step, from 1 on.
    """
    if step <= options.warmup_steps:
        return losses.mean()
    chosen = losses.detach().topk(kept(len(losses), options), sorted=False).indices
    return losses[chosen].mean()
