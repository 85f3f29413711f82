"""Schedules, and where every knob of every member stands at each step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from twists import KNOBS, Story, Twist


def shape_of(kind: str, share: float) -> float:
    """A learning-rate schedule: the factor after `share` of the run."""
    if kind == "constant":
        return 1.0
    if kind == "step":
        return 0.1 ** sum(share >= edge for edge in (0.5, 0.75))
    if kind == "one-cycle":
        return 0.1 + 0.9 * share / 0.3 if share < 0.3 else 0.5 * (1 + math.cos(math.pi * (share - 0.3) / 0.7))
    if kind == "restarts":
        return 0.05 + 0.475 * (1 + math.cos(math.pi * (share * 4 % 1)))
    warm = 0.06 if kind == "warmup-cosine" else 0.0
    if share < warm:
        return (share + 0.002) / (warm + 0.002)
    return 0.02 + 0.49 * (1 + math.cos(math.pi * (share - warm) / (1 - warm)))


class Knobs:
    """The position of every knob at every step, a table `[steps, members]` for each; untouched ones cost nothing."""

    def __init__(self, stories: Sequence[Story], steps: int) -> None:
        self.steps, self.members = steps, len(stories)
        self._tables: dict[str, Tensor] = {}
        for column, story in enumerate(stories):
            for twist in story.twists:
                self._turn(twist, column)

    def _turn(self, twist: Twist, column: int) -> None:
        usual = KNOBS[twist.knob]
        table = self._tables.setdefault(twist.knob, torch.full((self.steps, self.members), usual, dtype=torch.float32))
        begin = round(twist.begin * self.steps)
        end = min(self.steps, max(begin + 1, round(twist.end * self.steps)))
        table[begin:end, column] = _way(twist, usual, end - begin)

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def at(self, name: str, own: Tensor) -> Tensor:
        """The positions of knob `name`, `[members]`, each member at its own step `own`, counted from 0."""
        if name not in self._tables:
            return torch.full((self.members,), KNOBS[name])
        return self._tables[name][own, torch.arange(self.members)]


def _way(twist: Twist, usual: float, steps: int) -> Tensor:
    """The positions from the first step of a twist to its last: a factor is ramped evenly in its logarithm."""
    if not twist.ramp:
        return torch.full((steps,), twist.value)
    way = torch.linspace(0, 1, steps)
    return twist.value**way if usual == 1.0 else usual + (twist.value - usual) * way
