"""Trains many members of one program at once, with everything that their stories ask for, and keeps the truth.

The members are stacked along the first axis of every tensor and never touch each other: a NaN in one stays there.
A faulty run and its twin share their seed, so they see the same batches in the same order from the same start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from data import DATA, Data
from models import MODELS, Batch, Model, initial
from optimizers import OPTIMIZERS, Spans, State
from programs import Program
from torch import Tensor
from torch.func import vmap
from twists import KNOBS, Story

EVALUATIONS = 40
"""Per run, evenly spaced."""

HELD_OUT = 128
"""Samples per evaluation."""


@dataclass(frozen=True)
class Member:
    """One run of a program."""

    story: Story
    seed: int
    lr: float
    """Times the program's learning rate; the same for a run and its twin."""
    twin: int | None = None
    """For a faulty run: which member is the same without the fault."""


@dataclass(frozen=True)
class Truth:
    """What really happened, one row per step in the order of time, one column per member."""

    step: Tensor
    train: Tensor
    grad: Tensor
    lr: Tensor
    active: Tensor
    val_at: tuple[int, ...]
    val: Tensor
    sound: Tensor
    """Per member: whether the weights are finite at the end."""


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
    """The position of every knob at every step, `[steps, members]`; untouched ones cost nothing."""

    def __init__(self, stories: list[Story], steps: int) -> None:
        self.steps, self.members = steps, len(stories)
        self._tables: dict[str, Tensor] = {}
        for column, story in enumerate(stories):
            for twist in story.twists:
                table = self._tables.setdefault(
                    twist.knob, torch.full((steps, len(stories)), KNOBS[twist.knob], dtype=torch.float32)
                )
                begin = round(twist.begin * steps)
                end = min(steps, max(begin + 1, round(twist.end * steps)))
                values = torch.full((end - begin,), twist.value)
                if twist.ramp:
                    way = torch.linspace(0, 1, end - begin)
                    usual = KNOBS[twist.knob]
                    values = twist.value**way if usual == 1.0 else usual + (twist.value - usual) * way
                table[begin:end, column] = values

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def at(self, name: str, own: Tensor) -> Tensor:
        """The positions of knob `name`, each member at its own step."""
        if name not in self._tables:
            return torch.full((self.members,), KNOBS[name])
        return self._tables[name][own, torch.arange(self.members)]


class _Stack:
    """The weights of all members in one matrix, and the views of it that the model sees."""

    def __init__(self, model: Model, data: Data, members: list[Member], seeds: Tensor, generator: torch.Generator):
        shapes = model.shapes(data)
        self.spans: Spans = {}
        begin, parts = 0, []
        unique = int(seeds.max()) + 1
        for name, shape in shapes.items():
            self.spans[name] = (begin, shape)  # type: ignore[index]
            begin += math.prod(shape)
            value = initial(name, shape, unique, generator)[seeds]
            for row, member in enumerate(members):
                value[row] *= member.story.initial
                if name.endswith(".b") and name[0].isdigit():
                    value[row] += member.story.bias
            parts.append(value.flatten(1))
        self.weights = torch.cat(parts, 1)

    def views(self) -> dict[str, Tensor]:
        return {
            name: self.weights[:, begin : begin + math.prod(shape)].unflatten(1, shape).requires_grad_()
            for name, (begin, shape) in self.spans.items()
        }

    def thaw(self, frozen: Tensor) -> Tensor:
        """Which weights may move, `[members, size]`."""
        mask = torch.ones_like(self.weights)
        for name, (begin, shape) in self.spans.items():
            kept = torch.ones(len(frozen))
            kept[(frozen == 1) & torch.tensor(not name.startswith(("out", "head", "d1")))] = 0
            kept[(frozen == 2) & torch.tensor(not name.endswith(".b"))] = 0
            mask[:, begin : begin + math.prod(shape)] = kept[:, None]
        return mask


class _Feed:
    """Draws every member's batch: its own share and stretch of the data, in its own order."""

    def __init__(self, data: Data, model: Model, members: list[Member], seeds: Tensor, knobs: Knobs) -> None:
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


def _weights_of(losses: Tensor, knobs: Knobs, own: Tensor) -> Tensor:
    """How much each sample of the batch counts, summing to 1 per member."""
    width = losses.shape[1]
    counts = torch.ones_like(losses)
    if "batch" in knobs:
        keep = (knobs.at("batch", own) * width).round().clamp(min=1)
        counts = (torch.arange(width)[None] < keep[:, None]).float()
    if "mining" in knobs:
        hard = (losses.detach() >= losses.detach().median(1, keepdim=True).values).float()
        counts = torch.where(knobs.at("mining", own)[:, None] > 0, counts * hard, counts)
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def train(program: Program, members: list[Member], seed: int) -> Truth:  # noqa: PLR0915
    """Trains all members of `program` to the end; nothing stops a sick one."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    model, data, steps = MODELS[program.model], DATA[program.data](), program.steps
    stories = [member.story for member in members]
    knobs, count = Knobs(stories, steps), len(members)
    known = {member.seed: place for place, member in reversed(list(enumerate({m.seed: m for m in members}.values())))}
    seeds = torch.tensor([known[member.seed] for member in members])
    stack = _Stack(model, data, members, seeds, draw)
    feed = _Feed(data, model, members, seeds, knobs)
    rates = program.lr * torch.tensor(
        [[shape_of(m.story.schedule or program.schedule, t / steps) * m.lr for m in members] for t in range(steps)]
    )
    optimize, state = OPTIMIZERS[program.optimizer], State()
    resumed = {row: tuple(round(part * steps) for part in s.resumed) for row, s in enumerate(stories) if s.resumed}
    saved: dict[int, tuple[Tensor, State]] = {}
    own, everyone = torch.zeros(count, dtype=torch.long), torch.arange(count)
    loss_scale = torch.full((count,), 2.0**10 if program.half else 1.0)
    eps = torch.full((count,), 1e-7)
    extra = max((late - early for early, late in resumed.values()), default=0)
    told: dict[str, list[Tensor]] = {name: [] for name in ("step", "train", "grad", "lr", "active")}
    val_at, val = [], []
    every = max(1, steps // EVALUATIONS)

    def costs(params: dict[str, Tensor], x: Tensor, y: Tensor, noise: Tensor, guard: Tensor) -> tuple[Tensor, Tensor]:
        cost = model.cost(params, Batch(x, y, noise, guard, program.half))
        return cost.minimised, cost.printed

    stacked, shared = vmap(costs), vmap(costs, in_dims=(0, 0, 0, None, 0))
    held = _held_out(data, stories)
    noise_held = torch.randn(held[0].shape[1], model.noise, generator=draw)
    for now in range(steps + extra):
        active = own < steps
        place = own.clamp(max=steps - 1)
        x, y, noise = feed.batch(place, program.batch, draw)
        views = stack.views()
        guard = eps * knobs.at("eps", place)
        minimised, printed = stacked(views, x, y, noise, guard)
        share = _weights_of(minimised, knobs, place)
        scale = loss_scale * knobs.at("scale", place)
        total = ((minimised * share).sum(1) * scale).sum()
        grads = torch.cat([grad.flatten(1) for grad in torch.autograd.grad(total, list(views.values()))], 1)
        grads = grads / scale[:, None]
        norm = grads.norm(dim=1)
        skipped = torch.zeros(count, dtype=torch.bool)
        if program.half:
            skipped = ~norm.isfinite() & (knobs.at("skip", place) > 0)
            loss_scale = torch.where(skipped, loss_scale / 2, loss_scale)
            grads[skipped] = 0
        if program.clip:
            limit = program.clip * knobs.at("clip", place)
            grads *= torch.where(norm > limit, limit / (norm + 1e-6), torch.ones(count))[:, None]
        if "frozen" in knobs:
            grads *= stack.thaw(knobs.at("frozen", place))
        lr = rates[place, everyone] * knobs.at("lr", place)
        still = ~active | skipped | (knobs.at("update", place) == 0)
        before = stack.weights[still].clone() if still.any() else None
        with torch.no_grad():
            optimize(state, stack.weights, grads, lr[:, None], stack.spans)
            if before is not None:
                stack.weights[still] = before
        mean = (printed * share).sum(1).detach()
        for name, value in (("step", place), ("train", mean), ("grad", norm), ("lr", lr), ("active", active)):
            told[name].append(value.clone())
        if (now + 1) % every == 0:
            with torch.no_grad():
                _, printed = shared(stack.views(), *held, noise_held, guard)
            val_at.append(now)
            val.append(printed.mean(1))
        own = own + active.long()
        for row, (early, late) in resumed.items():
            if own[row] == early and row not in saved:
                saved[row] = (stack.weights[row].clone(), _row_of(state, row))
            elif own[row] == late and row in saved and saved[row][1] is not None:
                stack.weights[row] = saved[row][0]
                _put_row(state, row, saved[row][1])
                own[row], saved[row] = early, (saved[row][0], None)  # type: ignore[assignment]
    arrays = {name: torch.stack(values) for name, values in told.items()}
    return Truth(**arrays, val_at=tuple(val_at), val=torch.stack(val), sound=stack.weights.isfinite().all(1))


def _held_out(data: Data, stories: list[Story]) -> tuple[Tensor, Tensor]:
    size = min(HELD_OUT, len(data.x_val), len(data.x))
    leaks = torch.tensor([story.leak for story in stories])
    x = torch.where(_wide(leaks, data.x), data.x[:size][None], data.x_val[:size][None])
    y = torch.where(_wide(leaks, data.y), data.y[:size][None], data.y_val[:size][None])
    return x, y


def _wide(flags: Tensor, like: Tensor) -> Tensor:
    return flags.reshape(-1, 1, *[1] * (like.dim() - 1))


def _row_of(state: State, row: int) -> State:
    return {name: value[row].clone() for name, value in state.items() if isinstance(value, Tensor)}


def _put_row(state: State, row: int, kept: State) -> None:
    for name, value in kept.items():
        state[name][row] = value
