"""A perceptron: numbers of any shape in, one vector of scores or values out."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from trainer.spec.model import Mlp


class Perceptron(nn.Module):
    """[samples, …] to [samples, outputs]."""

    def __init__(self, options: Mlp, inputs: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        widths = [math.prod(inputs), *[options.width] * options.layers]
        self.hidden = nn.ModuleList(nn.Linear(wide, next_) for wide, next_ in pairwise(widths))
        self.drop = nn.Dropout(options.dropout)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.hidden:
            x = self.drop(nn.functional.gelu(layer(x)))
        out: Tensor = self.head(x)
        return out
