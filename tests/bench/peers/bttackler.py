"""BTTackler's assessor: training problems as a reason to end a trial early.

Source: thuml/BTTackler, bttackler/bridger/btassessor.py and its default configuration (KDD 2024). Restated, once per
epoch: NaN, or a gradient above 1e4; in the first half a gradient below 1e-5, or losses whose spread is under 1e-4 of
their mean (3 epochs or more); in the second half a loss that varies more in its second part than in its first, and
over the last 6 epochs a slope of at least 0.01 with a spread of over 20 % (oscillation); the mean of the last 3 epochs
above that of the 3 before (no more gain), for train and validation loss. A trial among the best 10 % of its peers in an
epoch is immune for good, except to explosion and oscillation; that takes 10 peers. Not run: the quotients of
neighbouring layers and the share of zero gradients. The gradient norm stands for the median of layer gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import quantiles

from peers.base import Feed, Peer, Point, Setup, broken, epochs, mean

ALL = ("slow", "late", "oscillation", "no_gain")

MANY = 10
"""Peers that must have reached an epoch before the best of them are protected."""


def _spread(losses: Sequence[float]) -> float:
    middle = mean(losses)
    return math.sqrt(mean([(loss - middle) * (loss - middle) for loss in losses])) / middle if middle else math.inf


def _slope(losses: Sequence[float]) -> float:
    middle, level = (len(losses) - 1) / 2, mean(losses)
    across = sum((i - middle) ** 2 for i in range(len(losses)))
    return sum((i - middle) * (loss - level) for i, loss in enumerate(losses)) / across


def _late(losses: Sequence[float]) -> bool:
    half = len(losses) // 2
    return len(losses) >= 6 and _spread(losses[:half]) < _spread(losses[half:])


def _oscillates(losses: Sequence[float], spread: float) -> bool:
    recent = losses[-6:]
    return len(recent) == 6 and _slope(recent) >= 0.01 and _spread(recent) > spread


def _no_gain(losses: Sequence[float], window: int) -> bool:
    half = window // 2
    return len(losses) >= window and mean(losses[-window:-half]) < mean(losses[-half:])


class _Immunity:
    """Who is among the best of its program in an epoch may live."""

    def __init__(self, setup: Setup) -> None:
        self.peers: dict[int, list[float]] = setup.program.setdefault("losses", {})
        self.granted = False

    def look(self, epoch: int, loss: float) -> bool:
        others = self.peers.setdefault(epoch, [])
        if len(others) >= MANY and loss <= quantiles(others, n=10, method="inclusive")[0]:
            self.granted = True
        others.append(loss)
        return self.granted


class _Assessor:
    """One trial, epoch by epoch."""

    def __init__(self, immunity: _Immunity, rules: tuple[str, ...], spread: float, window: int) -> None:
        self.immunity, self.rules, self.spread, self.window = immunity, rules, spread, window
        self.train: list[float] = []
        self.val: list[float] = []

    def epoch(self, point: Point, train: float | None, val: float | None) -> str | None:
        for losses, loss in ((self.train, train), (self.val, val)):
            if loss is not None:
                losses.append(loss)
        early = point.done < 0.5
        immune = self.immunity.look(len(self.train), train) if train is not None else False
        if early and not immune and point.grad_norm is not None and point.grad_norm < 1e-5:
            return "vanishing gradient"
        if not early and self._either("oscillation", lambda losses: _oscillates(losses, self.spread)):
            return "oscillation"
        return None if immune else self._slow(early=early)

    def _slow(self, *, early: bool) -> str | None:
        if early and "slow" in self.rules and len(self.train) >= 3 and _spread(self.train) < 1e-4:
            return "slow convergence"
        if not early and self._either("late", _late):
            return "late: more variable than before"
        if self._either("no_gain", lambda losses: _no_gain(losses, self.window)):
            return "no more gain"
        return None

    def _either(self, rule: str, question: Callable[[list[float]], bool]) -> bool:
        return rule in self.rules and (question(self.train) or question(self.val))


def make(setup: Setup, *, rules: tuple[str, ...] = ALL, spread: float = 0.2, window: int = 6) -> Feed:
    read, assessor = epochs(setup), _Assessor(_Immunity(setup), rules, spread, window)

    def feed(point: Point) -> str | None:
        if broken(point.train_loss) or broken(point.val_loss) or broken(point.grad_norm):
            return "NaN or Inf"
        if point.grad_norm is not None and point.grad_norm > 1e4:
            return "exploding gradient"
        epoch = read(point)
        return None if epoch is None else assessor.epoch(point, *epoch)

    return feed


PEER = Peer(
    name="BTTackler",
    kind="stop",
    source="thuml/BTTackler, btassessor.py",
    make=make,
    documented={"rules": ALL, "spread": 0.2, "window": 6},
    grid={
        "rules": (ALL, ("slow", "late", "oscillation"), ("slow", "oscillation"), ("slow",)),
        "spread": (0.2, 0.5),
        "window": (6, 20),
    },
    compares=True,
)
