"""From samples to the micro-batches of each optimizer step, from a position that can be saved and set."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trainer import spec
from trainer.data.ahead import Ahead
from trainer.data.curriculum import Eligible
from trainer.data.order import Order
from trainer.data.plan import Part, Plan, Position
from trainer.data.samples import Micro, Ordered, Samples

__all__ = ["Loader", "Micro", "Position"]

_FAR = 1 << 16
"""Samples looked at together, at most, while a curriculum looks for one that is easy enough."""


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
        total_steps: int = 0,
    ) -> None:
        """A loader that stands at `position`.

        Args:
            samples: what is served.
            options: its `train`, `loading`, `curriculum` and `seed` count here.
            position: where to begin.
            rank: which part of every micro-batch is this process's.
            world: how many ranks there are.
            total_steps: length of the run, for a curriculum; 0: as `options` say.

        Raises:
            SpecError: a curriculum is asked for that these samples cannot have.
        """
        self.samples, self.seed = samples, options.seed
        self.batch_size, self.accumulate = options.train.batch_size, options.train.accumulate
        self.rank, self.world = rank, world
        self.position = position
        self._count = len(samples)
        self._order: tuple[int, Order] | None = None
        self._eligible = Eligible(samples, options, total_steps) if options.curriculum else None
        reading = options.loading
        self._fetched_ahead = Ahead(samples, reading, self.seed, self._plan) if reading.workers else None

    @property
    def groups_per_epoch(self) -> int:
        """Optimizer steps in an epoch in which no sample is passed over."""
        return -(-self._count // (self.batch_size * self.accumulate))

    @property
    def epoch_over(self) -> bool:
        return self.position.index >= self._count

    def next_group(self, step: int) -> list[Micro]:
        """The micro-batches of optimizer step `step`, of which the first is 1."""
        if self._fetched_ahead is not None:
            plan, group = self._fetched_ahead.group(self.position, step)
            self.position = Position(plan.end.epoch, plan.end.index)  # the caller may change it; what was planned stays
            return group
        plan = self._plan(self.position, step)
        self.position = plan.end
        return [Micro(*self.samples.batch(numbers), share) for numbers, share in plan.parts]

    def close(self) -> None:
        """Ends the processes that read ahead. The loader then serves without them."""
        if self._fetched_ahead is not None:
            self._fetched_ahead.close()
            self._fetched_ahead = None

    def _plan(self, position: Position, step: int) -> Plan:
        begin = self._ready(position, step)
        if self._eligible is not None:
            numbers, end = self._chosen(begin, step)
        else:
            end = Position(begin.epoch, min(begin.index + self.batch_size * self.accumulate, self._count))
            numbers = self._epoch(begin.epoch).numbers(begin.index, end.index)
        return Plan(position, step, self._parts(numbers), end)

    def _ready(self, position: Position, step: int) -> Position:
        """`position`, or the begin of the next epoch where nothing is left of this one."""
        left = position.index < self._count
        if left and self._eligible is not None:
            left = self._passed_over(position, step).index < self._count
        return position if left else Position(position.epoch + 1, 0)

    def _chosen(self, begin: Position, step: int) -> tuple[Tensor, Position]:
        """The next samples that are easy enough, and the place of the first one that is easy enough for the next step.

        The epoch is over with the last of them, not only when the next step finds none.
        """
        wanted, found, index = self.batch_size * self.accumulate, list[Tensor](), begin.index
        for first, numbers, shown in self._ahead(begin, step):
            places = shown.nonzero().flatten()[:wanted]
            found.append(numbers[places])
            wanted -= len(places)
            index = first + (len(numbers) if wanted else int(places[-1]) + 1)
            if not wanted:
                break
        end = self._passed_over(Position(begin.epoch, index), step + 1)
        chosen = torch.cat(found)
        return (chosen, end) if len(chosen) else (self._easiest(begin), end)

    def _easiest(self, begin: Position) -> Tensor:
        """One sample where all are too hard, as in an epoch of a mixture that has not drawn the easiest of all."""
        numbers = self._epoch(begin.epoch).numbers(begin.index, begin.index + _FAR)
        scores = self.samples.scores()
        assert scores is not None
        return numbers[scores.index_select(0, numbers).argmin()][None]

    def _passed_over(self, position: Position, step: int) -> Position:
        """The place of the next sample that is easy enough, or the end of the epoch."""
        for first, _, shown in self._ahead(position, step):
            if bool(shown.any()):
                return Position(position.epoch, first + int(shown.nonzero()[0]))
        return Position(position.epoch, self._count)

    def _ahead(self, begin: Position, step: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The samples from a place on, some at a time: the first one's place, their numbers, which are easy enough."""
        assert self._eligible is not None
        order, index, size = self._epoch(begin.epoch), begin.index, 4 * self.batch_size * self.accumulate
        while index < self._count:
            numbers = order.numbers(index, index + size)
            yield index, numbers, self._eligible.of(numbers, step)
            index, size = index + len(numbers), min(2 * size, _FAR)

    def _parts(self, numbers: Tensor) -> list[Part]:
        """This rank's parts of a group's micro-batches; one sample that does not count where none is left."""
        count = len(numbers)
        if self.world == 1 and count <= self.batch_size:
            return [Part(numbers, 1.0)]
        micros = torch.split(numbers, self.batch_size)
        if self.world == 1:
            return [Part(micro, len(micro) / count) for micro in micros]
        mine = [micro[self.rank :: self.world] for micro in micros]
        pairs = zip(mine, micros, strict=True)
        return [Part(part if len(part) else micro[:1], len(part) / count) for part, micro in pairs]

    def _epoch(self, epoch: int) -> Order:
        if self._order is None or self._order[0] != epoch:
            own = self.samples if isinstance(self.samples, Ordered) else None
            order = own.order(self.seed, epoch) if own else Order(self._count, f"epoch {epoch} of seed {self.seed}")
            self._order = epoch, order
        return self._order[1]
