"""Rows whose numbers are still on the device: written when they arrive, so that logging never makes the GPU wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

Write = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class _Pending:
    names: tuple[str, ...]
    values: Tensor
    arrived: torch.cuda.Event
    write: Write


class Deferred:
    """A queue of rows in the order of their steps.

    The scalars of a row are stacked on the device and copied to pinned memory without waiting; an event tells when the
    copy is there. On the CPU the numbers are there at once.
    """

    def __init__(self) -> None:
        self.healthy = True
        """Whether all numbers of the last row written were finite."""
        self._queue: deque[_Pending] = deque()

    def put(self, scalars: Mapping[str, Tensor], write: Write) -> None:
        """Queues a row and writes every row that has arrived."""
        if not next(iter(scalars.values())).is_cuda:
            self._write({name: value.item() for name, value in scalars.items()}, write)
            return
        stacked = torch.stack([value.detach().float() for value in scalars.values()])
        host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
        host.copy_(stacked, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(stacked.device))
        self._queue.append(_Pending(tuple(scalars), host, arrived, write))
        self.drain()

    def drain(self) -> None:
        """Writes what has arrived, in order, and waits for nothing."""
        while self._queue and self._queue[0].arrived.query():  # type: ignore[no-untyped-call]
            self._take(self._queue.popleft())

    def flush(self) -> None:
        """Waits for every row and writes it: before an evaluation, a checkpoint, the end, and whatever is raised."""
        while self._queue:
            pending = self._queue.popleft()
            pending.arrived.synchronize()
            self._take(pending)

    def _take(self, pending: _Pending) -> None:
        self._write(dict(zip(pending.names, pending.values.tolist(), strict=True)), pending.write)

    def _write(self, numbers: dict[str, float], write: Write) -> None:
        write(numbers)  # which may take out a number that is none
        self.healthy = all(map(isfinite, numbers.values()))
