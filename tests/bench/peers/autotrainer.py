"""AUTOTRAINER's monitor.

Source: shiningrain/AUTOTRAINER, AutoTrainer/utils/monitor.py (ICSE 2021). Restated, every fifth epoch: a NaN or
infinite loss, or one of 1,000 and more (its code has 1e5 in places), is an explosion; from 30 % of the planned epochs
on, accuracy extremes at least 0.03 apart in 20 % of the epochs are oscillation, and no epoch with a gain of 0.01 in
accuracy is slow convergence; oscillation is only asked for while the best accuracy has reached 0.6. Not run: layer
gradients and weights (vanishing, exploding, dying ReLU), so logs without accuracies leave the explosion rule alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from peers.base import Feed, Peer, Point, Setup, broken, epochs


def _oscillates(accuracies: Sequence[float], gap: float, share: float) -> bool:
    inner = list(zip(accuracies, accuracies[1:], accuracies[2:], strict=False))
    tops = [now for before, now, after in inner if now >= before and now >= after]
    bottoms = [now for before, now, after in inner if now <= before and now <= after]
    wide = sum(top - bottom >= gap for top, bottom in zip(tops, bottoms, strict=False))
    return wide >= share * len(accuracies)


def _gain(accuracies: Sequence[float]) -> float:
    return max((after - before for before, after in pairwise(accuracies)), default=0.0)


def make(
    setup: Setup,
    *,
    cap: float = 1e3,
    gap: float = 0.03,
    share: float = 0.2,
    gain: float = 0.01,
    satisfied: float = 0.6,
    begin: float = 0.3,
    every: int = 5,
) -> Feed:
    read = epochs(setup)
    train: list[float] = []
    val: list[float] = []
    count = 0
    exploded = False

    def judge(point: Point) -> str | None:
        known = [accuracies for accuracies in (train, val) if len(accuracies) > 2]
        if point.done < begin or not known:
            return None
        slow = all(_gain(accuracies) < gain for accuracies in known)
        if slow:
            return "slow convergence"
        reached = all(max(accuracies) >= satisfied for accuracies in known)
        return "oscillation" if reached and _oscillates(known[0], gap, share) else None

    def feed(point: Point) -> str | None:
        nonlocal count, exploded
        for loss in (point.train_loss, point.val_loss):
            exploded = exploded or broken(loss) or (loss is not None and loss >= cap)
        if point.accuracy is not None:
            train.append(point.accuracy)
        if point.val_accuracy is not None:
            val.append(point.val_accuracy)
        if read(point) is None:
            return None
        count += 1
        if count % every:
            return None
        return "NaN, or a huge loss" if exploded else judge(point)

    return feed


PEER = Peer(
    name="AUTOTRAINER",
    kind="stop",
    source="shiningrain/AUTOTRAINER, monitor.py",
    make=make,
    documented={"cap": 1e3, "gap": 0.03, "share": 0.2, "gain": 0.01, "satisfied": 0.6, "begin": 0.3, "every": 5},
    grid={
        "cap": (1e3, 1e5),
        "gap": (0.03, 0.1, 1.0),
        "gain": (0.01, 0.001, 0.0),
        "satisfied": (0.6, 0.7),
        "every": (1, 5),
    },
)
