"""Several sources as one: samples are drawn from each by its weight, in an order that is fixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer import spec
from trainer.data.fields import Label, in_order
from trainer.data.index import MOST_LABELS
from trainer.data.order import Order, shuffled
from trainer.data.samples import Batch, Data, Joined, Samples

_BLOCK = 4096
"""Draws whose order is shuffled together."""
_UNIT = 1 << 22
"""Weights are rounded to parts of this, so that whole numbers say exactly how often a source was drawn from."""


class Mixture(Joined):
    """Sources to learn from, side by side; an epoch is as many draws as all of them have samples."""

    def __init__(self, parts: tuple[Samples, ...], weights: Sequence[float]) -> None:
        super().__init__(parts)
        self.weights = tuple(weights)

    def order(self, seed: int, epoch: int) -> Order:
        """The draws of one epoch; they go on where those of the epoch before it ended."""
        sizes = tuple(len(part) for part in self.parts)
        return _Draws(sizes, _shares(self.weights), seed, epoch)


class _Draws(Order):
    """The number of each sample that an epoch draws."""

    def __init__(self, sizes: tuple[int, ...], shares: tuple[int, ...], seed: int, epoch: int) -> None:
        super().__init__(sum(sizes), f"draws of seed {seed}")
        self.sizes, self.shares = sizes, shares
        self.before = epoch * self.count

    def block(self, begin: int, end: int) -> Tensor:
        """The samples drawn at the places from `begin` to `end`."""
        draws = self._scattered(torch.arange(self.before + begin, self.before + end))
        found = torch.empty(len(draws), dtype=torch.int64)
        left, first = torch.arange(len(draws)), 0
        for source, (size, share) in enumerate(zip(self.sizes, self.shares, strict=True)):
            drawn = draws * share // _UNIT  # from this source, by all draws before
            mine = (draws + 1) * share // _UNIT > drawn
            found[left[mine]] = first + self._from(source, size, drawn[mine])
            left, draws, first = left[~mine], (draws - drawn)[~mine], first + size
        return found

    def _scattered(self, draws: Tensor) -> Tensor:
        """The draws of each block in random order: else a rank might see every second draw, and so one source alone."""
        blocks = draws // _BLOCK
        parts = [
            block * _BLOCK + shuffled(draws[blocks == block] % _BLOCK, _BLOCK, f"{self.key} {block}")
            for block in range(int(blocks[0]), int(blocks[-1]) + 1)
        ]
        return torch.cat(parts)

    def _from(self, source: int, size: int, drawn: Tensor) -> Tensor:
        """The samples of one source: it is gone through in random order, in another one each time."""
        found, rounds = torch.empty_like(drawn), drawn // size
        for turn in sorted(set(rounds.tolist())):
            here = rounds == turn
            found[here] = shuffled(drawn[here] % size, size, f"{self.key} {source} {turn}")
        return found


def _shares(weights: Sequence[float]) -> tuple[int, ...]:
    """Of each source, what part of the draws that those before it leave is its own, in units of 1 / _UNIT."""
    found, left = [], sum(weights)
    for weight in weights[:-1]:
        found.append(min(_UNIT, max(1, round(weight / left * _UNIT))))
        left -= weight
    return (*found, _UNIT)


def mixture(found: Sequence[Data], weights: Sequence[float], where: str = "data") -> Data:
    """Several data as one.

    Raises:
        SpecError: they are not of one kind.
    """
    for number, other in enumerate(found[1:], 1):
        _alike(found[0], other, f"{where}.sources.{number}", f"{where}.sources.0")
    labels = in_order(str(label) for each in found for label in each.facts.get("labels", []))
    if len(labels) > MOST_LABELS:
        raise spec.SpecError(f"{where}: the sources have {len(labels)} labels together; {MOST_LABELS} are the most")
    parts = [_of_all(each, labels) for each in found]
    train = Mixture(tuple(part for part, _ in parts), weights)
    val = Joined(tuple(part for _, part in parts))
    first = found[0]
    return Data(
        train,
        val,
        task=first.task,
        inputs=first.inputs,
        outputs=len(labels) or first.outputs,
        fingerprint=_fingerprint(found, weights),
        facts=_facts(found, weights, labels, (len(train), len(val))),
        text=first.text,
        padded=any(each.padded for each in found),
    )


def _alike(first: Data, other: Data, where: str, before: str) -> None:
    """Sees that two sources can be learned together.

    Raises:
        SpecError: they differ in task, shape or outputs.
    """
    for name in ("task", "inputs", "text"):
        one, two = getattr(first, name), getattr(other, name)
        if one != two:
            raise spec.SpecError(f"{where}: its {name} is {two!r}, that of {before} {one!r}; all sources must agree")
    if first.outputs != other.outputs and first.task != "classification":
        raise spec.SpecError(f"{where}: has {other.outputs} outputs, {before} has {first.outputs}; all must agree")


def _of_all(found: Data, labels: Sequence[Label]) -> tuple[Samples, Samples]:
    """The two parts of one source, with the classes of all."""
    own = [str(label) for label in found.facts.get("labels", [])]
    every = [str(label) for label in labels]
    if own == every:
        return found.train, found.val
    numbers = {label: number for number, label in enumerate(every)}
    table = torch.tensor([numbers[label] for label in own])
    return Relabelled(found.train, table), Relabelled(found.val, table)


class Relabelled:
    """Samples whose classes have other numbers than where they come from."""

    def __init__(self, samples: Samples, table: Tensor) -> None:
        self.samples, self.table = samples, table

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, numbers: Tensor) -> Batch:
        inputs, targets = self.samples.batch(numbers)
        return inputs, self.table[targets]

    def scores(self) -> Tensor | None:
        return self.samples.scores()


def _fingerprint(found: Sequence[Data], weights: Sequence[float]) -> str:
    told = [[each.fingerprint, weight] for each, weight in zip(found, weights, strict=True)]
    return hashlib.sha256(json.dumps(["mixture", *told]).encode()).hexdigest()[:16]


def _facts(
    found: Sequence[Data], weights: Sequence[float], labels: Sequence[Label], sizes: tuple[int, int]
) -> Mapping[str, Any]:
    total = sum(weights)
    sources = [
        {**item, "weight": weight / total}
        for each, weight in zip(found, weights, strict=True)
        for item in each.facts["sources"] or [{"path": each.facts["kind"]}]
    ]
    facts = {"kind": "mixture", "train": sizes[0], "val": sizes[1], "sources": sources}
    return {**facts, **({"labels": list(labels)} if labels else {})}
