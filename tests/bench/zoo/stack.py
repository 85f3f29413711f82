"""The weights of all members of a program, one row per member."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from data import Data
from members import Member
from models import Model, initial
from optimizers import Spans
from torch import Tensor


class Stack:
    """The weights of all members in one matrix, `[members, size]`, and the views of it that the model sees."""

    def __init__(self, model: Model, data: Data, members: Sequence[Member], seeds: Tensor, generator: torch.Generator):
        shapes = model.shapes(data)
        ends = list(accumulate(math.prod(shape) for shape in shapes.values()))
        self.spans: Spans = {
            name: (end - math.prod(shape), shape) for (name, shape), end in zip(shapes.items(), ends, strict=True)
        }
        self.weights = torch.cat(
            [_started(name, shape, members, seeds, generator).flatten(1) for name, shape in shapes.items()], 1
        )

    def views(self) -> dict[str, Tensor]:
        """Every parameter, `[members, *shape]`, as part of the one matrix; gradients may be asked for."""
        return {
            name: self.weights[:, begin : begin + math.prod(shape)].unflatten(1, shape).requires_grad_()
            for name, (begin, shape) in self.spans.items()
        }

    def thaw(self, frozen: Tensor) -> Tensor:
        """Which weights may move, `[members, size]`: 1 or 0, by the position of the knob `frozen`, `[members]`."""
        mask = torch.ones_like(self.weights)
        for name, (begin, shape) in self.spans.items():
            kept = torch.ones(len(frozen))
            kept[(frozen == 1) & torch.tensor(not name.startswith(("out", "head", "d1")))] = 0
            kept[(frozen == 2) & torch.tensor(not name.endswith(".b"))] = 0
            mask[:, begin : begin + math.prod(shape)] = kept[:, None]
        return mask


def _started(
    name: str, shape: tuple[int, ...], members: Sequence[Member], seeds: Tensor, generator: torch.Generator
) -> Tensor:
    """One parameter of all members before the first step, `[members, *shape]`: equal seeds start equal."""
    value = initial(name, shape, int(seeds.max()) + 1, generator)[seeds]
    for row, member in enumerate(members):
        value[row] *= member.story.initial
        if name.endswith(".b") and name[0].isdigit():
            value[row] += member.story.bias
    return value
