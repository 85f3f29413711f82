"""The floor: what a page of code reaches, ours. A checker that is not better than this has no reason to exist.

The level is the median of the last 5 losses. A run is stopped when more than half of its drop from start to best is
lost, and the level is 50 % over the best, for 2 % of the rows so far; or after 3 non-finite rows in a row.
"""

from __future__ import annotations

from collections import deque

from peers.base import Feed, Peer, Point, Setup, broken


def make(
    setup: Setup, *, window: int = 5, drop: float = 0.5, over: float = 0.5, hold: float = 0.02, bad: int = 3
) -> Feed:
    del setup
    recent: deque[float] = deque(maxlen=window)
    start = best = None
    rows = lost = non_finite = 0

    def level(loss: float) -> str | None:
        nonlocal start, best, lost
        recent.append(loss)
        if len(recent) < window:
            return None
        now = sorted(recent)[window // 2]
        if start is None or best is None:
            start = best = now
        best = min(best, now)
        worse = now > best + drop * (start - best) and now > best + over * abs(best)
        lost = lost + 1 if worse else 0
        return f"level {now:.4g}, best {best:.4g}, for {lost} rows" if worse and lost >= hold * rows else None

    def feed(point: Point) -> str | None:
        nonlocal rows, non_finite
        rows += 1
        if point.train_loss is None and point.val_loss is None:
            return None
        if broken(point.train_loss) or broken(point.val_loss):
            non_finite += 1
            return f"{non_finite} non-finite rows" if non_finite >= bad else None
        non_finite = 0
        return None if point.train_loss is None else level(point.train_loss)

    return feed


PEER = Peer(
    name="floor (a page of code)",
    kind="stop",
    source="this file",
    make=make,
    documented={"window": 5, "drop": 0.5, "over": 0.5, "hold": 0.02, "bad": 3},
    grid={"drop": (0.5, 0.75, 1.0), "over": (0.5, 1.0, 2.0), "hold": (0.02, 0.05, 0.1)},
)
