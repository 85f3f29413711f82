"""Trains many members of one program at once, with everything that their stories ask for, and keeps the truth.

The members are stacked along the first axis of every tensor and never touch each other: a NaN in one stays there.
A faulty run and its twin share their seed, so they see the same batches in the same order from the same start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from data import DATA
from feed import Feed, held_out, shares
from knobs import Knobs, shape_of
from members import Member
from models import MODELS, Batch, Model
from optimizers import OPTIMIZERS, State
from programs import Program
from stack import Stack
from torch import Tensor
from torch.func import vmap
from truth import Truth
from twists import Story

EVALUATIONS = 40
"""Per run, evenly spaced."""


class _Row(NamedTuple):
    """One step of all members, `[members]` each; the names are those of `Truth`."""

    step: Tensor
    train: Tensor
    grad: Tensor
    lr: Tensor
    active: Tensor


def train(program: Program, members: Sequence[Member], seed: int) -> Truth:
    """Trains all members of `program` to the end; nothing stops a sick one."""
    torch.manual_seed(seed)
    crowd = _Crowd(program, members, torch.Generator().manual_seed(seed))
    every = max(1, program.steps // EVALUATIONS)
    told, val_at, val = [], [], []
    for now in range(program.steps + crowd.checkpoints.extra):
        told.append(crowd.step())
        if (now + 1) % every == 0:
            val_at.append(now)
            val.append(crowd.evaluated())
        crowd.advance()
    columns = [torch.stack(values) for values in zip(*told, strict=True)]
    sound = crowd.stack.weights.isfinite().all(1)
    return Truth(*columns, val_at=tuple(val_at), val=torch.stack(val), sound=sound)


class _Crowd:
    """All members in the middle of their training; each is at a step of its own, since some have gone back."""

    def __init__(self, program: Program, members: Sequence[Member], draw: torch.Generator) -> None:
        """Sets up the first step; `draw` is the source of all chance from here on."""
        stories = [member.story for member in members]
        model, data, seeds = MODELS[program.model], DATA[program.data](), _ranks(members)
        self.program, self.draw = program, draw
        self.knobs = Knobs(stories, program.steps)
        self.stack = Stack(model, data, members, seeds, draw)
        self.feed = Feed(data, model, members, seeds, self.knobs)
        self.costs = _Costs(model, half=program.half)
        self.rates = _rates(program, members)
        self.optimizer: State = {}
        self.checkpoints = _Checkpoints(stories, program.steps)
        self.held = held_out(data, stories)
        self.held_noise = torch.randn(self.held[0].shape[1], model.noise, generator=draw)
        self.own = torch.zeros(len(members), dtype=torch.long)
        self.loss_scale = torch.full((len(members),), 2.0**10 if program.half else 1.0)

    @property
    def active(self) -> Tensor:
        """Who has not come to the end, `[members]`."""
        return self.own < self.program.steps

    @property
    def place(self) -> Tensor:
        """The step that each member is at, counted from 0, `[members]`."""
        return self.own.clamp(max=self.program.steps - 1)

    @property
    def guard(self) -> Tensor:
        """What guards a logarithm, `[members]`."""
        return torch.full((len(self.own),), 1e-7) * self.knobs.at("eps", self.place)

    def step(self) -> _Row:
        """One step of everybody; who is at the end computes, and stays as he is."""
        place = self.place
        printed, grads = self._gradients(place)
        norm = grads.norm(dim=1)
        skipped = self._unscaled(grads, norm, place)
        self._restrained(grads, norm, place)
        lr = self.rates[place, torch.arange(len(place))] * self.knobs.at("lr", place)
        self._update(grads, lr, ~self.active | skipped | (self.knobs.at("update", place) == 0))
        return _Row(place, printed, norm, lr, self.active)

    def _gradients(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """The printed loss of each member's batch, `[members]`, and the gradients, `[members, size]`."""
        x, y, noise = self.feed.batch(place, self.program.batch, self.draw)
        views = self.stack.views()
        minimised, printed = self.costs.training(views, x, y, noise, self.guard)
        share = shares(minimised, self.knobs, place)
        scale = self.loss_scale * self.knobs.at("scale", place)
        total = ((minimised * share).sum(1) * scale).sum()
        grads = torch.autograd.grad(total, list(views.values()))
        flat = torch.cat([grad.flatten(1) for grad in grads], 1) / scale[:, None]
        return (printed * share).sum(1).detach(), flat

    def _unscaled(self, grads: Tensor, norm: Tensor, place: Tensor) -> Tensor:
        """Whose step is left out, `[members]`: in half precision an infinite gradient halves the loss scale instead."""
        if not self.program.half:
            return torch.zeros(len(norm), dtype=torch.bool)
        skipped = ~norm.isfinite() & (self.knobs.at("skip", place) > 0)
        self.loss_scale = torch.where(skipped, self.loss_scale / 2, self.loss_scale)
        grads[skipped] = 0
        return skipped

    def _restrained(self, grads: Tensor, norm: Tensor, place: Tensor) -> None:
        """Clips the gradients in place, and takes away those of frozen weights."""
        if self.program.clip:
            limit = self.program.clip * self.knobs.at("clip", place)
            grads *= torch.where(norm > limit, limit / (norm + 1e-6), torch.ones(len(norm)))[:, None]
        if "frozen" in self.knobs:
            grads *= self.stack.thaw(self.knobs.at("frozen", place))

    def _update(self, grads: Tensor, lr: Tensor, still: Tensor) -> None:
        """Steps everybody but those who stand `still`, `[members]`."""
        weights = self.stack.weights
        before = weights[still].clone() if still.any() else None
        with torch.no_grad():
            OPTIMIZERS[self.program.optimizer](self.optimizer, weights, grads, lr[:, None], self.stack.spans)
            if before is not None:
                weights[still] = before

    def evaluated(self) -> Tensor:
        """Everybody's validation loss, `[members]`."""
        with torch.no_grad():
            _, printed = self.costs.validation(self.stack.views(), *self.held, self.held_noise, self.guard)
        return printed.mean(1)

    def advance(self) -> None:
        """Everybody goes to the next step, or back to the checkpoint that it is resumed from."""
        self.own = self.own + self.active.long()
        self.checkpoints.visit(self.own, self.stack.weights, self.optimizer)


class _Costs:
    """What a model's samples cost, minimised and printed, `[members, width]` each."""

    def __init__(self, model: Model, *, half: bool) -> None:
        """Validation differs from training in its noise, which is the same for everybody."""

        def costs(
            params: Mapping[str, Tensor], x: Tensor, y: Tensor, noise: Tensor, guard: Tensor
        ) -> tuple[Tensor, Tensor]:
            cost = model.cost(params, Batch(x, y, noise, guard, half))
            return cost.minimised, cost.printed

        self.training = vmap(costs)
        self.validation = vmap(costs, in_dims=(0, 0, 0, None, 0))


class _Checkpoints:
    """Sets members back to where their checkpoint was written, once each."""

    def __init__(self, stories: Sequence[Story], steps: int) -> None:
        """Only stories with `resumed` have a checkpoint."""
        self._plans = {
            row: (round(story.resumed[0] * steps), round(story.resumed[1] * steps))
            for row, story in enumerate(stories)
            if story.resumed
        }
        self._saved: dict[int, tuple[Tensor, State]] = {}
        self.extra = max((late - early for early, late in self._plans.values()), default=0)
        """How many steps the last one to finish takes more than planned."""

    def visit(self, own: Tensor, weights: Tensor, optimizer: State) -> None:
        """Saves and restores whoever has come to that step; all three arguments are changed in place."""
        for row, (early, late) in list(self._plans.items()):
            if own[row] == early and row not in self._saved:
                self._saved[row] = weights[row].clone(), _row_of(optimizer, row)
            elif own[row] == late:
                weights[row], kept = self._saved.pop(row)
                for name, value in kept.items():
                    optimizer[name][row] = value
                own[row] = early
                del self._plans[row]


def _row_of(state: State, row: int) -> State:
    return {name: value[row].clone() for name, value in state.items() if isinstance(value, Tensor)}


def _ranks(members: Sequence[Member]) -> Tensor:
    """The place of each member's seed among the seeds, in the order in which they appear, `[members]`."""
    ranks: dict[int, int] = {}
    return torch.tensor([ranks.setdefault(member.seed, len(ranks)) for member in members])


def _rates(program: Program, members: Sequence[Member]) -> Tensor:
    """The learning rate that the schedule has for each step, before any twist, `[steps, members]`."""
    return program.lr * torch.tensor(
        [
            [shape_of(m.story.schedule or program.schedule, step / program.steps) * m.lr for m in members]
            for step in range(program.steps)
        ]
    )
