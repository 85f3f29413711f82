"""llm-foundry's KillLossSpike.

Source: mosaicml/llm-foundry, llmfoundry/callbacks/kill_loss_spike_callback.py (77 stored versions, the limits did not
change). Restated: a window of the last max(100, 5 % of the planned batches) losses; five losses in a row of at least
twice the window's mean are a spike; half a window above min(10, highest loss of the first window), after two windows,
is a persistently high loss. It runs on scalars as it is; rows stand for batches. Its default only logs (`log_only`);
here it stops, which is what its name says. One NaN makes the window's mean NaN, so nothing is compared until it has
left it.
"""

from __future__ import annotations

from collections import deque

from peers.base import Feed, Peer, Point, Setup


def make(
    setup: Setup, *, window: int = 100, share: float = 0.05, patience: int = 4, multiple: float = 2.0, cap: float = 10.0
) -> Feed:
    size = max(window, round(share * setup.total_rows))
    recent: deque[float] = deque(maxlen=size)
    high = cap
    outliers = batches = 0

    def judge(loss: float) -> str | None:
        nonlocal outliers
        mean = sum(recent) / size
        if loss >= multiple * mean:
            outliers += 1
            if outliers > patience:
                return f"{outliers} losses in a row of {multiple:g} times the mean {mean:.4g}"
        else:
            outliers = 0
        if batches >= 2 * size and sum(past > high for past in recent) >= size / 2:
            return f"half of the last {size} losses above {high:.4g}"
        return None

    def feed(point: Point) -> str | None:
        nonlocal batches, high
        loss = point.train_loss
        if loss is None:
            return None
        full = len(recent) == size
        if full and batches == size:
            high = min(cap, max(recent))
        said = judge(loss) if full else None
        batches += 1
        recent.append(loss)
        return said

    return feed


PEER = Peer(
    name="llm-foundry KillLossSpike",
    kind="stop",
    source="mosaicml/llm-foundry, kill_loss_spike_callback.py",
    make=make,
    documented={"window": 100, "share": 0.05, "patience": 4, "multiple": 2.0, "cap": 10.0},
    grid={"window": (10, 30, 100), "patience": (2, 4, 9), "multiple": (1.5, 2.0, 3.0), "cap": (10.0, float("inf"))},
)
