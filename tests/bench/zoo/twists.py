"""What is done to a run *while it trains*: faults that ought to be found, and oddities that ought to be left alone.

A twist changes one knob of the training loop from one moment to another. Nothing here ever touches a log.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

KNOBS: Final[dict[str, float]] = {
    "lr": 1.0,  # times the schedule's learning rate
    "update": 1.0,  # times the step that the optimizer takes; the logged learning rate knows nothing of it
    "inputs": 1.0,  # times the inputs: 1,000 is a batch that nobody normalised
    "labels": 0.0,  # share of the targets that are replaced by other samples' targets
    "clip": 1.0,  # times the program's clipping norm
    "eps": 1.0,  # times what guards a logarithm
    "frozen": 0.0,  # 1: all but the output layer, 2: all but biases
    "mining": 0.0,  # 1: only the harder half of the batch counts
    "batch": 1.0,  # share of the batch that counts
    "first": 0.0,  # the data in use, as shares of the training set ordered by target
    "last": 1.0,
    "scale": 1.0,  # times the loss scale of half precision
    "skip": 1.0,  # whether steps with infinite gradients are skipped
}
"""Every knob with its normal position."""


@dataclass(frozen=True)
class Twist:
    """One knob, turned between two moments of the run (shares of its length); `ramp` turns it slowly."""

    knob: str
    value: float
    begin: float = 0.0
    end: float = 2.0
    ramp: bool = False


@dataclass(frozen=True)
class Story:
    """All that is special about one run."""

    name: str = "plain"
    twists: tuple[Twist, ...] = ()
    begin: float = 0.0
    """When the fault sets in, as a share of the run."""
    initial: float = 1.0
    """Times the usual size of the initial weights."""
    bias: float = 0.0
    """Initial bias of hidden layers: far below zero, every ReLU is dead."""
    data: float = 1.0
    """Share of the training set that there is."""
    schedule: str | None = None
    """Another schedule than the program's."""
    resumed: tuple[float, float] | None = None
    """Killed at the second moment, resumed from a checkpoint of the first; what lies between is logged twice."""
    leak: bool = False
    """Validated on the training set."""


Recipe = Callable[[random.Random], Story]


def _power(chance: random.Random, low: float, high: float) -> float:
    return low * (high / low) ** chance.random()


def _later(chance: random.Random) -> float:
    return chance.uniform(0.25, 0.75)


def _from(name: str, knob: str, low: float, high: float, *, start: bool = False, ramp: bool = False) -> Recipe:
    def recipe(chance: random.Random) -> Story:
        begin = 0.0 if start else _later(chance)
        return Story(name, (Twist(knob, _power(chance, low, high), begin, ramp=ramp),), begin)

    return recipe


def _moment(name: str, knob: str, low: float, high: float) -> Recipe:
    def recipe(chance: random.Random) -> Story:
        begin = _later(chance)
        twist = Twist(knob, _power(chance, low, high), begin, begin + chance.choice((0.001, 0.003, 0.01)))
        return Story(name, (twist,), begin)

    return recipe


def _unclipped(chance: random.Random) -> Story:
    begin = _later(chance)
    lr = _power(chance, 4, 40)
    return Story("no-clip", (Twist("clip", 1e9, begin), Twist("lr", lr, begin)), begin)


def _log_zero(chance: random.Random) -> Story:
    begin = _later(chance)
    return Story("log-zero", (Twist("eps", 0.0), Twist("inputs", _power(chance, 3, 30), begin)), begin)


def _overflow(chance: random.Random) -> Story:
    begin = _later(chance)
    return Story("fp16-overflow", (Twist("skip", 0.0), Twist("scale", _power(chance, 1e4, 1e8), begin)), begin)


def _early_decay(chance: random.Random) -> Story:
    begin = chance.uniform(0.03, 0.2)
    return Story("schedule-too-short", (Twist("lr", 1e-6, begin),), begin)


def _zero_lr(chance: random.Random) -> Story:
    begin = chance.uniform(0.03, 0.3)
    return Story("lr-zero", (Twist("lr", 0.0, begin),), begin)


FAULTS: dict[str, Recipe] = {
    "lr-too-high": _from("lr-too-high", "lr", 10, 1000, start=True),
    "lr-jump": _from("lr-jump", "lr", 15, 500),
    "lr-creep": _from("lr-creep", "lr", 30, 3000, ramp=True),
    "lr-edge": _from("lr-edge", "lr", 5, 60),
    "bad-batch": _moment("bad-batch", "inputs", 1e2, 1e6),
    "nan-batch": lambda chance: Story("nan-batch", (Twist("inputs", float("nan"), b := _later(chance), b + 0.001),), b),
    "unscaled-from-then": _from("unscaled-from-then", "inputs", 20, 1000),
    "unscaled": _from("unscaled", "inputs", 30, 1000, start=True),
    "no-clip": _unclipped,
    "log-zero": _log_zero,
    "fp16-overflow": _overflow,
    "labels-lost": _from("labels-lost", "labels", 0.4, 1.0),
    "labels-rot": _from("labels-rot", "labels", 0.08, 0.6, ramp=True),
    "labels-shuffled": lambda _: Story("labels-shuffled", (Twist("labels", 1.0),)),
    "lr-zero": _zero_lr,
    "schedule-too-short": _early_decay,
    "never-warmed": _from("never-warmed", "lr", 1e-4, 1e-2, start=True),
    "not-stepping": lambda _: Story("not-stepping", (Twist("update", 0.0),)),
    "frozen": lambda _: Story("frozen", (Twist("frozen", 2.0),)),
    "dead-relu": lambda chance: Story("dead-relu", bias=-chance.uniform(10, 100)),
    "tiny-data": lambda chance: Story("tiny-data", data=_power(chance, 0.01, 0.06)),
}  # fmt: skip
"""By name: what goes wrong in real trainings."""


def _jump(chance: random.Random) -> Story:
    begin = _later(chance)
    return Story("data-mix", (Twist("last", chance.uniform(0.4, 0.8), 0.0, begin),), begin)


def _curriculum(chance: random.Random) -> Story:
    first, second = sorted((chance.uniform(0.1, 0.5), chance.uniform(0.3, 0.7)))
    return Story("curriculum", (Twist("last", 0.25, 0.0, first), Twist("last", 0.6, first, second)), first)


def _restart(chance: random.Random) -> Story:
    saved = chance.uniform(0.2, 0.6)
    return Story("resumed", resumed=(saved, saved + chance.uniform(0.03, 0.15)))


ODDITIES: dict[str, Recipe] = {
    "spike": _moment("spike", "inputs", 3, 40),
    "label-spike": _moment("label-spike", "labels", 0.5, 1.0),
    "data-mix": _jump,
    "curriculum": _curriculum,
    "unfreezing": lambda chance: Story("unfreezing", (Twist("frozen", 1.0, 0.0, b := chance.uniform(0.1, 0.5)),), b),
    "mining": lambda chance: Story("mining", (Twist("mining", 1.0, b := _later(chance)),), b),
    "batch-ramp": lambda chance: Story("batch-ramp", (Twist("batch", 0.15, 0.0, b := _later(chance)),), b),
    "small-batch": lambda _: Story("small-batch", (Twist("batch", 0.1),)),
    "resumed": _restart,
    "starts-high": lambda chance: Story("starts-high", initial=chance.uniform(2.0, 5.0)),
    "noisy-labels": lambda chance: Story("noisy-labels", (Twist("labels", chance.uniform(0.05, 0.3)),)),
    "more-data-noise": _from("more-data-noise", "labels", 0.02, 0.08),
    "warm-restarts": lambda _: Story("warm-restarts", schedule="restarts"),
    "one-cycle": lambda _: Story("one-cycle", schedule="one-cycle"),
    "constant": lambda _: Story("constant", schedule="constant"),
    "leak": lambda _: Story("leak", leak=True),
}
"""By name: what healthy runs are known to do."""
