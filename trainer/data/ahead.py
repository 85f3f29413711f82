"""Processes that fetch samples before they are asked for, in the order of the steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.data.plan import Plan, Position
from trainer.data.samples import Batch, Micro, Samples
from trainer.spec.data import Loading


class Ahead:
    """Serves plans one after another, each from the position at which the one before it ended.

    Who asks for another one than was expected gets it all the same: what was fetched for nothing is forgotten.
    """

    def __init__(self, samples: Samples, loading: Loading, seed: int, plan: Callable[[Position, int], Plan]) -> None:
        """Starts no process yet.

        Args:
            samples: what the processes fetch from.
            loading: how many processes, and how far ahead.
            seed: what their random numbers follow from, for samples that draw some.
            plan: what a step at a position fetches.
        """
        self._plans = _Plans(plan)
        self._loader: DataLoader[Batch] | None = DataLoader(
            _Fetched(samples),
            batch_size=None,  # what is planned is a batch already
            sampler=self._plans,
            num_workers=loading.workers,
            prefetch_factor=loading.prefetch,
            persistent_workers=True,
            collate_fn=_as_it_is,
            generator=torch.Generator().manual_seed(seed),  # without one, torch's own random numbers would move on
        )
        self._batches: Iterator[Batch] | None = None

    def group(self, position: Position, step: int) -> tuple[Plan, list[Micro]]:
        """The plan of a step at a position, and its micro-batches."""
        waiting = self._plans.waiting
        if self._batches is None or not waiting or (waiting[0].begin, waiting[0].step) != (position, step):
            self._begin(position, step)
        batches = self._batches
        assert batches is not None
        found = [next(batches)]  # which plans the next group, if it is not planned yet
        plan = waiting[0]
        found += [next(batches) for _ in plan.parts[1:]]
        waiting.popleft()
        return plan, [Micro(*batch, part.share) for batch, part in zip(found, plan.parts, strict=True)]

    def _begin(self, position: Position, step: int) -> None:
        """Lets the processes begin at a position, be it for the first time or anew."""
        assert self._loader is not None, "the loader is closed"
        self._plans.waiting.clear()
        self._plans.start = Position(position.epoch, position.index), step
        self._batches = iter(self._loader)

    def close(self) -> None:
        """Ends the processes."""
        self._batches = self._loader = None


class _Plans:
    """The numbers of batch after batch without end, and the plans that they belong to until somebody takes those."""

    def __init__(self, plan: Callable[[Position, int], Plan]) -> None:
        self.plan = plan
        self.start = Position(), 1
        self.waiting = deque[Plan]()

    def __iter__(self) -> Iterator[Tensor]:
        position, step = self.start
        while True:
            plan = self.plan(position, step)
            self.waiting.append(plan)
            for part in plan.parts:
                yield part.numbers
            position, step = plan.end, step + 1


class _Fetched(Dataset[Batch]):
    """What a process fetches from."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, numbers: Tensor) -> Batch:
        return self.samples.batch(numbers)


def _as_it_is(batch: Any) -> Any:
    return batch
