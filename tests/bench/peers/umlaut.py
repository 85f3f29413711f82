"""UMLAUT's checks of a training run.

Source: BerkeleyHCI/umlaut, umlaut/heuristics.py (CHI 2021). Restated, once per epoch: a NaN loss; a learning rate
above 0.01 or below 1e-7; overfitting, which is one epoch with the validation loss up and the train loss not up; a
validation accuracy above 95 % after the third epoch, or 5 points above that of training. Not run: input range and
type, and missing softmax, which need the model and the data.
"""

from __future__ import annotations

import math

from peers.base import Feed, Peer, Point, Setup, epochs


def make(
    setup: Setup, *, lr_high: float = 0.01, lr_low: float = 1e-7, overfit_epochs: int = 1, accuracies: bool = True
) -> Feed:
    read = epochs(setup)
    last: tuple[float | None, float | None] = (None, None)
    count = rising = 0

    def overfit(train: float | None, val: float | None) -> bool:
        nonlocal last, rising
        before, last = last, (train, val)
        if train is None or val is None or before[0] is None or before[1] is None:
            return False
        rising = rising + 1 if val > before[1] and train <= before[0] else 0
        return rising >= overfit_epochs

    def too_good(point: Point) -> bool:
        val, train = point.val_accuracy, point.accuracy
        return val is not None and ((val > 0.95 and count > 3) or (train is not None and val > train + 0.05))

    def feed(point: Point) -> str | None:
        nonlocal count
        if point.train_loss is not None and math.isnan(point.train_loss):
            return "NaN loss"
        if point.lr is not None and (point.lr > lr_high or point.lr < lr_low):
            return f"learning rate {point.lr:g}"
        epoch = read(point)
        count += epoch is not None
        if epoch is not None and overfit(*epoch):
            return "overfitting"
        return "validation accuracy too good" if accuracies and too_good(point) else None

    return feed


PEER = Peer(
    name="UMLAUT",
    kind="alert",
    source="BerkeleyHCI/umlaut, heuristics.py",
    make=make,
    documented={"lr_high": 0.01, "lr_low": 1e-7, "overfit_epochs": 1, "accuracies": True},
    grid={
        "lr_high": (0.01, 10.0),
        "lr_low": (1e-7, 0.0),
        "overfit_epochs": (1, 3, 10, 10**9),
        "accuracies": (True, False),
    },
)
