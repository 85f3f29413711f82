"""Whether each part of a model is being trained or used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Every part of the model gets its own mode back at the end of the block, whatever happens in it."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
