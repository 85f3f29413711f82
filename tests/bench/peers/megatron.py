"""Megatron's rerun state machine: NaN and infinity, and a loss or gradient of 10 times the calibrated maximum.

Source: NVIDIA/Megatron-LM, megatron/core/rerun_state_machine.py (`is_unexpectedly_large`) and its calls: the highest
absolute value of the first 100 samples is the yardstick for the rest of the run; a value of 10 times it is
unexpected. A NaN or infinite loss is fatal there, a spike only makes it run the step again and log. Not run: the
second run of the step, which tells a broken GPU from bad data. An alert here, because its 10x rule only tells.
"""

from __future__ import annotations

from collections.abc import Callable

from peers.base import Feed, Peer, Point, Setup, broken


def _large(samples: int, factor: float) -> Callable[[float], bool]:
    seen, top = 0, 0.0

    def large(value: float) -> bool:
        nonlocal seen, top
        if seen < samples:
            seen, top = seen + 1, max(top, abs(value))
            return False
        return abs(value) >= factor * top

    return large


def make(setup: Setup, *, samples: int = 100, factor: float = 10.0) -> Feed:
    del setup
    watched = {"train_loss": _large(samples, factor), "grad_norm": _large(samples, factor)}

    def feed(point: Point) -> str | None:
        for name, large in watched.items():
            value = getattr(point, name)
            if broken(value) and name == "train_loss":
                return "NaN or Inf loss"
            if value is not None and not broken(value) and large(value):
                return f"{name} of {factor:g} times its early maximum"
        return None

    return feed


PEER = Peer(
    name="Megatron 10x",
    kind="alert",
    source="NVIDIA/Megatron-LM, rerun_state_machine.py",
    make=make,
    documented={"samples": 100, "factor": 10.0},
    grid={"samples": (5, 20, 50, 100), "factor": (1.2, 2.0, 5.0, 10.0)},
)
