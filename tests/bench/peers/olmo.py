"""OLMo-core's StabilityMonitor.

Source: allenai/OLMo-core, src/olmo_core/train/callbacks/stability_monitor.py. Restated: a value more than 6 standard
deviations above the mean of the 128 values before it is a spike, for the loss and for the gradient norm; nothing is
said before the window is full, nor where the deviation is under 1e-10. The original only counts the share of spikes; a
first spike is taken as an alert here. A NaN in the window silences it, as in the original.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from peers.base import Feed, Peer, Point, Setup


def _spikes(window: int, sigmas: float) -> Callable[[float], bool]:
    recent: deque[float] = deque(maxlen=window)

    def spike(value: float) -> bool:
        answer = False
        if len(recent) == window:
            mean = sum(recent) / window
            spread = math.dist(recent, [mean] * window) / math.sqrt(window)  # in C: this is done for every row
            answer = spread >= 1e-10 and value > mean + sigmas * spread
        recent.append(value)
        return answer

    return spike


def make(setup: Setup, *, window: int = 128, sigmas: float = 6.0) -> Feed:
    del setup
    loss, norm = _spikes(window, sigmas), _spikes(window, sigmas)

    def feed(point: Point) -> str | None:
        if point.train_loss is not None and loss(point.train_loss):
            return f"loss more than {sigmas:g} deviations above its mean"
        if point.grad_norm is not None and norm(point.grad_norm):
            return f"gradient norm more than {sigmas:g} deviations above its mean"
        return None

    return feed


PEER = Peer(
    name="OLMo-core 6 sigma",
    kind="alert",
    source="allenai/OLMo-core, stability_monitor.py",
    make=make,
    documented={"window": 128, "sigmas": 6.0},
    grid={"window": (16, 32, 64, 128), "sigmas": (6.0, 10.0, 20.0)},
)
