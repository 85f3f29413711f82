"""What the rest of the program knows of data: samples by their numbers, and what they are samples of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from trainer.data.order import Order

Batch = tuple[Tensor, Tensor]
"""Inputs and targets; the first dimension of each counts the samples."""

IGNORED = -100
"""The target of a padded token: there is nothing to predict."""


class Samples(Protocol):
    """Samples that are fetched by their numbers."""

    def __len__(self) -> int: ...

    def batch(self, numbers: Tensor) -> Batch:
        """Some of the samples.

        Args:
            numbers: int64, one dimension, on the CPU, each below the length; one may come more than once.
        """
        ...

    def scores(self) -> Tensor | None:
        """How difficult each sample is (float32, one dimension); None where nothing says so. May lie on the disk."""
        ...


@runtime_checkable
class Ordered(Protocol):
    """Samples that come in an order of their own, in which some may come more than once in an epoch."""

    def order(self, seed: int, epoch: int) -> Order: ...


@dataclass(frozen=True)
class Data:
    """What a run learns from and is examined on."""

    train: Samples
    val: Samples
    task: str
    """`language`, `classification` or `regression`; empty where only the user knows it."""
    inputs: tuple[int, ...]
    """The shape of one input; of language (context,)."""
    outputs: int
    """Bytes of the vocabulary, classes, or numbers predicted; 0 where only the user knows it."""
    fingerprint: str
    """16 hex digits: follows from the content and all else that decides what is learned from, never from paths."""
    facts: Mapping[str, Any]
    """What was found in the data, as a JSON document."""
    text: bool = False
    """Whether inputs are bytes of text."""
    padded: bool = False
    """Whether samples may be shorter than an input, their targets filled up with `IGNORED`."""

    @property
    def remarks(self) -> list[str]:
        """What whoever trains should know of the data: a sentence for each source of which something is left out."""
        return [told for source in self.facts.get("sources", []) if (told := _left_out(source))]


_LEFT_OUT = {"skipped": "malformed and skipped", "blank": "blank", "cut": "cut to the context"}


def _left_out(source: Mapping[str, Any]) -> str:
    counts = [f"{source[name]:,} {what}" for name, what in _LEFT_OUT.items() if source.get(name)]
    if not counts:
        return ""
    first = f"; the first: {source['faults'][0]}" if source.get("faults") else ""
    return f"{source.get('path')}: {source.get('records', 0):,} records; {', '.join(counts)}{first}"


class Micro(NamedTuple):
    """A micro-batch, or this rank's part of one."""

    inputs: Tensor
    targets: Tensor
    share: float
    """What part of the group's loss it makes: its samples / samples of the whole group, on all ranks together."""


class Tensors:
    """Samples that are all in memory."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, numbers: Tensor) -> Batch:
        return self.inputs.index_select(0, numbers), self.targets.index_select(0, numbers)

    def scores(self) -> Tensor | None:
        return None


class Joined:
    """Several samples as one: those of the first, then those of the second, and so on."""

    def __init__(self, parts: tuple[Samples, ...]) -> None:
        self.parts = parts
        self.ends = torch.tensor([len(part) for part in parts]).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def batch(self, numbers: Tensor) -> Batch:
        whose = torch.searchsorted(self.ends, numbers, right=True)
        places, found = [], []
        for part in sorted(set(whose.tolist())):
            mine = (whose == part).nonzero().flatten()
            begin = int(self.ends[part]) - len(self.parts[part])
            places.append(mine)
            found.append(self.parts[part].batch(numbers[mine] - begin))
        back = torch.cat(places).argsort()
        inputs, targets = (torch.cat(each).index_select(0, back) for each in zip(*found, strict=True))
        return inputs, targets

    def scores(self) -> Tensor | None:
        found = [part.scores() for part in self.parts]
        known = [scores for scores in found if scores is not None]
        return torch.cat(known) if len(known) == len(found) else None
