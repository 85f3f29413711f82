"""The text of Python's standard library as training data: on every machine, and always in the same order."""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from trainer import spec
from trainer.spec.data import StdlibText


@dataclass(frozen=True)
class Text:
    """Bytes to learn from and bytes to be examined on."""

    train: Tensor
    val: Tensor
    fingerprint: str

    @classmethod
    def load(cls, options: StdlibText) -> Self:
        """The top-level modules in order of their names, cut off at `max_bytes`; the end is kept for validation.

        Raises:
            SpecError: too little text for what the spec asks.
        """
        text = bytearray()
        for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
            text += path.read_bytes()
            if len(text) >= options.max_bytes:
                break
        del text[options.max_bytes :]
        val = options.val_bytes or int(len(text) * options.val_fraction)
        if val >= len(text):
            raise spec.SpecError(f"data.val_bytes = {val}: the text has only {len(text)} bytes")
        tokens = torch.frombuffer(text, dtype=torch.uint8).long()
        return cls(tokens[:-val], tokens[-val:], hashlib.sha256(text).hexdigest()[:16])

    def samples(self, context: int) -> int:
        """How many windows of `context` bytes there are to learn from and to be examined on."""
        return sum((len(part) - 1) // context for part in (self.train, self.val))


def windows_in(text: Tensor, context: int) -> int:
    """How many windows fit side by side; each has one byte more than `context`, shared with its neighbour.

    Raises:
        SpecError: not even one.
    """
    count = (len(text) - 1) // context
    if count < 1:
        raise spec.SpecError(f"model.context = {context}: longer than the text, which has {len(text)} bytes")
    return count


def cut(text: Tensor, windows: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Input and target of some windows: the target is the input one byte later."""
    places = windows[:, None] * context + torch.arange(context + 1)
    tokens = text[places]
    return tokens[:, :-1], tokens[:, 1:]


@dataclass
class Position:
    """Where in the data a run stands: the next window is number `index` of the shuffled epoch `epoch`."""

    epoch: int = 0
    index: int = 0


Batch = tuple[Tensor, Tensor]


class Loader:
    """Serves one optimizer step's micro-batches at a time, from a position that can be saved and set.

    An epoch visits every window once, in an order that follows from seed and epoch alone. Its last group may hold
    fewer micro-batches, and its last micro-batch fewer windows; nothing is dropped.
    """

    def __init__(self, text: Tensor, options: spec.Spec, position: Position) -> None:
        self.text, self.context = text, options.context
        self.batch_size, self.accumulate = options.train.batch_size, options.train.accumulate
        self.seed, self.position = options.seed, position
        self.windows = windows_in(text, self.context)
        self._order: tuple[int, Tensor] | None = None

    @property
    def groups_per_epoch(self) -> int:
        return -(-self.windows // (self.batch_size * self.accumulate))

    @property
    def epoch_over(self) -> bool:
        return self.position.index >= self.windows

    def next_group(self) -> list[Batch]:
        """The micro-batches of the next optimizer step."""
        if self.epoch_over:
            self.position.epoch, self.position.index = self.position.epoch + 1, 0
        begin = self.position.index
        end = min(begin + self.batch_size * self.accumulate, self.windows)
        self.position.index = end
        chosen = self._shuffled(self.position.epoch)[begin:end]
        return [cut(self.text, part, self.context) for part in torch.split(chosen, self.batch_size)]

    def _shuffled(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._order = epoch, torch.randperm(self.windows, generator=generator)
        return self._order[1]
