"""Amazon SageMaker Debugger's built-in rules, as far as they read scalars.

Source: the AWS documents of the rules (the rules themselves run in closed containers; awslabs/sagemaker-debugger has
the mechanism, smdebug-rulesconfig the names). Restated: ExplodingTensor, a NaN or infinity; VanishingGradient, a
gradient below 1e-7 (here the norm stands for the mean); LossNotDecreasing, against the loss 10 looks ago it must have
fallen by 0.1 %, and while it rises by at most 5 %; Overfit, (validation - train) / train above 0.1; Overtraining,
neither loss has got better by 0.01 for 5 (train) and 10 (validation) looks. Not run: rules on weights, activations
and trees. Looks are epochs; the default save interval of 500 steps would see less. The action to stop the training is
off by default.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from peers.base import Feed, Peer, Point, Setup, broken, epochs, finite

ALL = ("overfit", "overtraining", "not_decreasing", "vanishing")

Loss = float | None


def _not_decreasing(looks: int, percent: float, rise: float) -> Callable[[float], bool]:
    recent: deque[float] = deque(maxlen=looks)

    def stuck(loss: float) -> bool:
        before = recent[0] if len(recent) == looks else None
        recent.append(loss)
        if before is None or not before:
            return False
        fallen = 100 * (before - loss) / abs(before)
        return fallen < -rise if fallen < 0 else fallen < percent

    return stuck


def _stale(patience: int, delta: float) -> Callable[[Loss], bool]:
    best, since = float("inf"), 0

    def stale(loss: Loss) -> bool:
        nonlocal best, since
        if loss is not None:
            best, since = (loss, 0) if loss < best - delta else (best, since + 1)
        return since >= patience

    return stale


def make(
    setup: Setup,
    *,
    rules: tuple[str, ...] = ALL,
    looks: int = 10,
    percent: float = 0.1,
    rise: float = 5.0,
    ratio: float = 0.1,
) -> Feed:
    read = epochs(setup)
    not_decreasing = _not_decreasing(looks, percent, rise)
    train_stale, val_stale = _stale(5, 0.01), _stale(10, 0.01)

    def judge(train: Loss, val: Loss) -> str | None:
        if "overfit" in rules and train and val is not None and (val - train) / abs(train) > ratio:
            return "Overfit"
        stale = (train_stale(train), val_stale(val))
        if "overtraining" in rules and setup.has_val and all(stale):
            return "Overtraining"
        if "not_decreasing" in rules and train is not None and not_decreasing(train):
            return "LossNotDecreasing"
        return None

    def feed(point: Point) -> str | None:
        if broken(point.train_loss) or broken(point.val_loss) or broken(point.grad_norm):
            return "ExplodingTensor"
        if "vanishing" in rules and finite(point.grad_norm) and abs(point.grad_norm or 0.0) < 1e-7:
            return "VanishingGradient"
        epoch = read(point)
        return None if epoch is None else judge(*epoch)

    return feed


PEER = Peer(
    name="SageMaker Debugger",
    kind="alert",
    source="AWS documents of the built-in rules; awslabs/sagemaker-debugger",
    make=make,
    documented={"rules": ALL, "looks": 10, "percent": 0.1, "rise": 5.0, "ratio": 0.1},
    grid={
        "rules": (ALL, ("not_decreasing", "vanishing"), ("vanishing",)),
        "looks": (10, 30),
        "percent": (0.1, -1.0),
        "rise": (5.0, 50.0, 200.0),
        "ratio": (0.1, 1.0),
    },
)
