"""Lightning's EarlyStopping, the package itself.

Source: lightning.pytorch.callbacks.EarlyStopping (2.6), defaults patience 3, min_delta 0, check_finite on. Its decision
`_evaluate_stopping_criteria` is asked with the monitored value as a tensor, once per validation. Not run: the trainer
around it, and `stopping_threshold` / `divergence_threshold`, which have no default and would need a raw loss level.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from peers.base import Feed, Peer, Point, Setup, monitored


@cache
def _parts() -> tuple[Any, Any]:
    return import_module("lightning.pytorch.callbacks").EarlyStopping, import_module("torch").tensor


def make(setup: Setup, *, patience: int = 3, min_delta: float = 0.0) -> Feed:
    callback, tensor = _parts()
    stopping = callback(monitor="loss", patience=patience, min_delta=min_delta, mode="min", check_finite=True)
    value = monitored(setup)

    def feed(point: Point) -> str | None:
        now = value(point)
        if now is None:
            return None
        stop, reason = stopping._evaluate_stopping_criteria(tensor(now))
        return reason if stop else None

    return feed


PEER = Peer(
    name="Lightning EarlyStopping",
    kind="stop",
    source="lightning.pytorch.callbacks.EarlyStopping",
    make=make,
    documented={"patience": 3, "min_delta": 0.0},
    grid={"patience": (3, 5, 10, 20, 50, 10_000), "min_delta": (0.0, 0.001)},
    package="lightning",
)
