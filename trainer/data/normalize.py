"""Mean and deviation of features, from the records that come first."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trainer.data.record_samples import RecordSamples

_NORMALIZED_BY = 10_000
"""Records whose mean and deviation are taken."""
_TOGETHER = 256
"""Of these, read together."""


def mean_and_scale(train: RecordSamples) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over the first records; 1 for one that is always the same."""
    first = total = squares = torch.zeros((), dtype=torch.float64)
    count = 0
    for inputs in _first_inputs(train):
        if not count:
            first = inputs[0]  # sums of what is left of a large number are exact where those of the number are not
        shifted = inputs - first
        total, squares, count = total + shifted.sum(0), squares + shifted.square().sum(0), count + len(inputs)
    mean = total / count
    scale = (squares / count - mean.square()).clamp(min=0).sqrt()
    return mean + first, torch.where(scale > 0, scale, torch.ones_like(scale))


def _first_inputs(train: RecordSamples) -> Iterator[Tensor]:
    for numbers in torch.split(torch.arange(min(len(train), _NORMALIZED_BY)), _TOGETHER):
        yield train.features(numbers)
