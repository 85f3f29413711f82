"""What settings usually are, with the source of each: numbers in, numbers out.

A setting outside of these bounds is no proof of anything. But a run that has failed with one is more likely to have
failed of it than of one that thousands of runs have been trained with.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Band(NamedTuple):
    """Where a setting lies in nearly every published run."""

    low: float
    high: float

    def decades(self, value: float) -> float:
        """How many powers of ten a value lies outside: above 0 beyond the high end, below 0 beyond the low one."""
        if value > self.high:
            return math.log10(value / self.high)
        return math.log10(value / self.low) if 0 < value < self.low else 0.0


MEMORY = 10.0
"""Steps that the usual momentum of 0.9 averages over: 1 / (1 - 0.9)."""

LONG_MEMORY = 50.0
"""Steps; 0.98. Large-batch training goes to 0.98 at most, where the rate is lowered in turn."""

_ADAM = Band(1e-5, 1e-2)
"""From the fine-tuning of large models (1e-5) to networks of a few thousand weights (1e-2)."""

_SGD = Band(1e-3, 1.0)
"""At momentum 0.9: from fine-tuning to networks with normalisation and large batches (Goyal et al. 2017: 0.1 per 256
images)."""

SPREAD = Band(1e-3, 0.3)
"""Standard deviation of initial weights: 1/sqrt(fan-in) of layers 10 to 1,000,000 wide."""
USUAL_SPREAD = 0.02
"""GPT-2, BERT and most transformers since."""

DECOUPLED = Band(0.0, 0.01)
"""Part of each weight that AdamW takes away per step, rate times weight decay: 1e-3 times 0.1 is 1e-4. At 0.01 a weight
forgets what it learned within 100 steps."""
USUAL_DECOUPLED = 0.1
"""GPT-3, LLaMA; torch's own default is 0.01."""

COUPLED = Band(0.0, 0.01)
"""Weight decay that is added to the gradient (SGD, Adam): 1e-4 in ResNets, 5e-4 in VGG."""
USUAL_COUPLED = 1e-4

DROPOUT = 0.5
"""Hidden layers in Srivastava et al. 2014, the most that is in use."""
USUAL_DROPOUT = 0.1
"""Transformers (Vaswani et al. 2017)."""

LEFT = 0.05
"""Part of the learning rate that a schedule leaves at the end of a run: 0.1 for language models, 0.01 in ResNets."""

CLIPPED = 0.01
"""Limits for the norm of the gradient are set to about its usual value; below a hundredth of it little is left."""

EPOCHS = 4
"""Text read up to four times is worth nearly as much as new text (Muennighoff et al. 2023, arXiv 2305.16264)."""


def is_adam(kind: str) -> bool:
    return "adam" in kind.lower()


def memory(momentum: float) -> float:
    """Steps that a momentum averages over."""
    return 1 / max(1 - momentum, 1e-9)


def rates(kind: str, momentum: float) -> Band | None:
    """The band of learning rates of an optimizer; None for one that is not known.

    Momentum multiplies the steps of SGD by its memory, and Adam's not.
    """
    if is_adam(kind):
        return _ADAM
    if kind.lower() != "sgd":
        return None
    scale = MEMORY / min(memory(momentum), LONG_MEMORY)
    return Band(_SGD.low * scale, _SGD.high * scale)


def rate(kind: str, momentum: float, weights: float | None) -> float | None:
    """The learning rate to begin with, for a model with so many weights; None for an optimizer that is not known.

    Adam: 0.003239 - 0.0001395 ln N (Kaplan et al. 2020, arXiv 2001.08361, appendix D.6), the usual 0.001 where N is
    not known. SGD: 0.1 at momentum 0.9, as most networks with normalisation were trained.
    """
    if is_adam(kind):
        return 1e-3 if weights is None else min(max(0.003239 - 0.0001395 * math.log(max(weights, 1.0)), 1e-4), 3e-3)
    if kind.lower() != "sgd":
        return None
    return 0.1 * MEMORY / min(memory(momentum), LONG_MEMORY)
