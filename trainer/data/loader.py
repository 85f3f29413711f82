"""From samples to the micro-batches of each optimizer step, from a position that can be saved and set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainer import spec
from trainer.data.order import Order
from trainer.data.samples import Micro, Ordered, Samples


@dataclass
class Position:
    """Where in the data a run stands: the samples at the places before `index` of the shuffled epoch are done with."""

    epoch: int = 0
    index: int = 0


class Part(NamedTuple):
    """Which samples of a micro-batch this rank fetches, and what part of the group's loss they make."""

    numbers: Tensor
    share: float


class Plan(NamedTuple):
    """One optimizer step: where it begins, what is fetched, and where the next one begins."""

    begin: Position
    parts: list[Part]
    end: Position


class Loader:
    """Serves one optimizer step's micro-batches at a time.

    An epoch visits every sample once, in an order that follows from seed and epoch alone. Its last group may hold fewer
    micro-batches, and its last micro-batch fewer samples; nothing is dropped. Ranks share every micro-batch: each gets
    its own part, and all get the same number of parts.
    """

    def __init__(
        self,
        samples: Samples,
        options: spec.Spec,
        position: Position,
        *,
        rank: int = 0,
        world: int = 1,
        total_steps: int = 0,  # noqa: ARG002 - of a curriculum
    ) -> None:
        """A loader that stands at `position`.

        Args:
            samples: what is served.
            options: its `train`, `loading`, `curriculum` and `seed` count here.
            position: where to begin.
            rank: which part of every micro-batch is this process's.
            world: how many ranks there are.
            total_steps: length of the run; 0 where it is not known yet.
        """
        self.samples, self.seed = samples, options.seed
        self.batch_size, self.accumulate = options.train.batch_size, options.train.accumulate
        self.rank, self.world = rank, world
        self.position = position
        self._count = len(samples)
        self._order: tuple[int, Order] | None = None

    @property
    def groups_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-self._count // (self.batch_size * self.accumulate))

    @property
    def epoch_over(self) -> bool:
        return self.position.index >= self._count

    def next_group(self, step: int) -> list[Micro]:
        """The micro-batches of optimizer step `step`, of which the first is 1."""
        plan = self._plan(self.position, step)
        self.position = plan.end
        return [Micro(*self.samples.batch(numbers), share) for numbers, share in plan.parts]

    def close(self) -> None:
        """Ends what reads ahead."""

    def _plan(self, position: Position, step: int) -> Plan:  # noqa: ARG002 - of a curriculum
        begin = position if position.index < self._count else Position(position.epoch + 1, 0)
        end = min(begin.index + self.batch_size * self.accumulate, self._count)
        numbers = self._epoch(begin.epoch).numbers(begin.index, end)
        return Plan(position, self._parts(numbers), Position(begin.epoch, end))

    def _parts(self, numbers: Tensor) -> list[Part]:
        """This rank's parts of a group's micro-batches; one sample that does not count where none is left."""
        micros = [numbers] if len(numbers) <= self.batch_size else torch.split(numbers, self.batch_size)
        if self.world == 1:
            return [Part(micro, len(micro) / len(numbers)) for micro in micros]
        mine = [micro[self.rank :: self.world] for micro in micros]
        pairs = zip(mine, micros, strict=True)
        return [Part(part if len(part) else micro[:1], len(part) / len(numbers)) for part, micro in pairs]

    def _epoch(self, epoch: int) -> Order:
        if self._order is None or self._order[0] != epoch:
            own = self.samples if isinstance(self.samples, Ordered) else None
            order = own.order(self.seed, epoch) if own else Order(self._count, f"epoch {epoch} of seed {self.seed}")
            self._order = epoch, order
        return self._order[1]
