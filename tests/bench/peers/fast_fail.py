"""The fast-fail detector of scaffold's research knowledge (zigrivers/scaffold, research-ml-training-patterns).

Restated from its description: NaN or infinity at any observation; at every 50th observation the loss is compared with
the first one looked at (more than 10 times it is an explosion) and with the best so far (less than 1 % better is no
improvement; 500 observations without one end the run). Everything of it runs on scalars. A best loss of exactly 0, by
which the original would divide, counts as no improvement.
"""

from __future__ import annotations

from peers.base import Feed, Peer, Point, Setup, broken


def make(setup: Setup, *, factor: float = 10.0, patience: int = 500, improvement: float = 1.0, every: int = 50) -> Feed:
    del setup
    seen = stale = 0
    first = best = None

    def compare(loss: float) -> str | None:
        nonlocal first, best, stale
        if first is None or best is None:
            first = best = loss
            return None
        if loss > first * factor:
            return f"loss exploded: {loss:.4g} > {first * factor:.4g}"
        if best and (best - loss) / abs(best) * 100 > improvement:
            best, stale = loss, 0
        else:
            stale += every
        return f"no improvement for {stale} observations" if stale >= patience else None

    def feed(point: Point) -> str | None:
        nonlocal seen
        loss = point.train_loss
        if loss is None:
            return None
        seen += 1
        if broken(loss):
            return "NaN or Inf loss"
        return compare(loss) if seen % every == 0 else None

    return feed


PEER = Peer(
    name="fast-fail (scaffold)",
    kind="stop",
    source="zigrivers/scaffold, research-ml-training-patterns",
    make=make,
    documented={"factor": 10.0, "patience": 500, "improvement": 1.0, "every": 50},
    grid={"factor": (2.0, 5.0, 10.0), "patience": (500, 2000, 10**9), "every": (1, 10, 50)},
)
