"""ignite's TerminateOnNan, the package itself; Keras' TerminateOnNaN is the same question asked of the same loss.

Source: ignite.handlers.TerminateOnNan (0.5): ends the training when the step's output holds a NaN or an infinity. The
engine is a stand-in with an output. It has no limits; tuning may let it look at the gradient norm and validation too.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from peers.base import Feed, Peer, Point, Setup


@cache
def _handler() -> Any:
    """One for all runs: it keeps nothing from call to call, and each new one adds a handler to its logger."""
    handler = import_module("ignite.handlers").TerminateOnNan()
    handler.logger.setLevel(logging.CRITICAL)
    return handler


def make(setup: Setup, *, output: tuple[str, ...] = ("train_loss",)) -> Feed:
    del setup
    handler = _handler()
    stopped: list[bool] = []
    engine = SimpleNamespace(state=SimpleNamespace(output=None), terminate=lambda: stopped.append(True))

    def feed(point: Point) -> str | None:
        engine.state.output = [value for name in output if (value := getattr(point, name)) is not None]
        handler(engine)
        return "NaN or Inf in the output" if stopped else None

    return feed


PEER = Peer(
    name="ignite / Keras TerminateOnNaN",
    kind="stop",
    source="ignite.handlers.TerminateOnNan",
    make=make,
    documented={"output": ("train_loss",)},
    grid={"output": (("train_loss",), ("train_loss", "val_loss"), ("train_loss", "val_loss", "grad_norm"))},
    package="pytorch-ignite",
)
