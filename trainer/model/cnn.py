"""A small convolutional network: images in, one vector of scores or values out."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from trainer.spec.model import Cnn


class Convolutions(nn.Module):
    """[samples, channels, height, width] to [samples, outputs]."""

    def __init__(self, options: Cnn, inputs: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        wide = (inputs[0], *options.channels)
        self.stages = nn.ModuleList(
            _stage(before, after, halves=number > 0) for number, (before, after) in enumerate(pairwise(wide))
        )
        self.drop = nn.Dropout(options.dropout)
        self.head = nn.Linear(wide[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        out: Tensor = self.head(self.drop(x.mean((2, 3))))
        return out


def _stage(before: int, after: int, *, halves: bool) -> nn.Sequential:
    # The rounding up of a stride keeps one pixel of an image that has no more, where pooling would leave none.
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2 if halves else 1, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.GELU(),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.GELU(),
    )
