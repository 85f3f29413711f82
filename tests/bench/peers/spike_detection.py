"""Fabric's (Lightning's) SpikeDetection, the package's own decision.

Source: lightning.fabric.utilities.spike.SpikeDetection (2.6): window 10, warm-up 1, rtol 2, non-finite is a spike. It
raises TrainingSpikeException, which ends the training. Its torchmetrics window is replaced by a plain one of the same
length, because torchmetrics costs half a millisecond per row. Not run: the file of batches to skip, and the ranks.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from importlib import import_module
from typing import Any

from peers.base import Feed, Peer, Point, Setup


@cache
def _parts() -> tuple[Any, Any]:
    return import_module("lightning.fabric.utilities.spike").SpikeDetection, import_module("torch").tensor


class _Mean:
    """The mean of the last `window` values, as torchmetrics' Running(MeanMetric) tells it."""

    def __init__(self, window: int) -> None:
        self.values: deque[float] = deque(maxlen=window)

    def update(self, value: Any) -> None:
        self.values.append(float(value))

    def compute(self) -> float:
        return sum(self.values) / len(self.values) if self.values else 0.0


def make(setup: Setup, *, window: int = 10, warmup: int = 1, rtol: float = 2.0) -> Feed:
    del setup
    detection, tensor = _parts()
    spikes = detection(mode="min", window=window, warmup=warmup, rtol=rtol)
    spikes.running_mean = _Mean(window)
    batch = -1

    def feed(point: Point) -> str | None:
        nonlocal batch
        if point.train_loss is None:
            return None
        batch += 1
        loss = tensor(point.train_loss)
        if batch >= warmup and spikes._is_spike(loss):
            return f"training spike in batch {batch}"
        spikes._update_stats(loss)
        return None

    return feed


PEER = Peer(
    name="Lightning SpikeDetection",
    kind="stop",
    source="lightning.fabric.utilities.spike.SpikeDetection",
    make=make,
    documented={"window": 10, "warmup": 1, "rtol": 2.0},
    grid={"window": (10, 50), "warmup": (1, 100), "rtol": (2.0, 5.0, 100.0)},
    package="lightning",
)
