"""What every member sees: the batches that it trains on, and what it is validated on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from data import Data
from knobs import Knobs
from members import Member
from models import Model
from torch import Tensor
from twists import Story

HELD_OUT = 128
"""Samples per evaluation."""


class Feed:
    """Draws every member's batch: its own share and stretch of the data, in its own order."""

    def __init__(self, data: Data, model: Model, members: Sequence[Member], seeds: Tensor, knobs: Knobs) -> None:
        self.data, self.model, self.knobs, self.seeds = data, model, knobs, seeds
        count = len(data.x)
        by_target = data.y.float().flatten(1).mean(1) if data.y.dim() > 1 else data.y.float()
        ordered = torch.argsort(by_target, stable=True)
        shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(1))
        staged = [any(twist.knob in ("first", "last") for twist in member.story.twists) for member in members]
        self.order = torch.stack(
            [
                ordered if sorted_ else shuffled.roll(37 * member.seed)
                for sorted_, member in zip(staged, members, strict=True)
            ]
        )
        self.size = torch.tensor([max(4, int(count * member.story.data)) for member in members])
        self.unique = int(seeds.max()) + 1

    def batch(self, own: Tensor, width: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, targets and noise, `[members, width, …]`, of each member at its own step.

        Chance is drawn once per seed, not per member: a run and its twin see the same samples.
        """
        chance = torch.rand(self.unique, width, generator=draw)[self.seeds]
        noise = torch.randn(self.unique, width, self.model.noise, generator=draw)[self.seeds]
        first, last = self.knobs.at("first", own)[:, None], self.knobs.at("last", own)[:, None]
        place = ((first + chance * (last - first)) * self.size[:, None]).long()
        index = self.order.gather(1, place)
        x, y = self.data.x[index], self.data.y[index]
        if "labels" in self.knobs:
            other = self.data.y[torch.randint(len(self.data.y), (self.unique, width), generator=draw)[self.seeds]]
            lost = torch.rand(self.unique, width, generator=draw)[self.seeds] < self.knobs.at("labels", own)[:, None]
            y = torch.where(lost.reshape(*lost.shape, *[1] * (y.dim() - 2)), other, y)
        if "inputs" in self.knobs and x.is_floating_point():
            x = x * self.knobs.at("inputs", own)[:, None, None]
        return x, y, noise


def shares(losses: Tensor, knobs: Knobs, own: Tensor) -> Tensor:
    """How much each sample of the batch counts, `[members, width]` like its `losses`; each row sums to 1."""
    width = losses.shape[1]
    counts = torch.ones_like(losses)
    if "batch" in knobs:
        keep = (knobs.at("batch", own) * width).round().clamp(min=1)
        counts = (torch.arange(width)[None] < keep[:, None]).float()
    if "mining" in knobs:
        hard = (losses.detach() >= losses.detach().median(1, keepdim=True).values).float()
        counts = torch.where(knobs.at("mining", own)[:, None] > 0, counts * hard, counts)
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def held_out(data: Data, stories: Sequence[Story]) -> tuple[Tensor, Tensor]:
    """What each member is validated on, inputs and targets, `[members, HELD_OUT, …]`: a leak is the training set."""
    size = min(HELD_OUT, len(data.x_val), len(data.x))
    leaks = torch.tensor([story.leak for story in stories])
    x = torch.where(_wide(leaks, data.x), data.x[:size][None], data.x_val[:size][None])
    y = torch.where(_wide(leaks, data.y), data.y[:size][None], data.y_val[:size][None])
    return x, y


def _wide(flags: Tensor, like: Tensor) -> Tensor:
    return flags.reshape(-1, 1, *[1] * (like.dim() - 1))
