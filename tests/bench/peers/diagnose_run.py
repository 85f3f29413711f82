"""The `diagnose_run` tool of the W&B MCP server.

Source: wandb/wandb-mcp-server, mcp_tools/diagnose_run.py (0.3.3 reads the first 500 rows of the history, later
versions a sample of 500). Restated: the mean of the second half of the losses against that of the first, 5 % more is
diverging, 5 % less is training unless the last tenth stands still (within 5 % of the second half's mean), all else is
converged, "can likely be stopped"; overfitting when the train loss falls and the validation loss does not, or when
the gap between them has grown by 30 %; NaN in any loss. It answers when asked; here it is asked a hundred times, once
per per cent of the plan, from the tenth value on, and what it would recommend to act upon is a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from peers.base import Feed, Peer, Point, Setup, broken, mean

ALL = ("nan", "diverging", "overfit", "converged")


def _trend(values: Sequence[float], change: float) -> str:
    half = len(values) // 2
    first, second, tail = mean(values[:half]), mean(values[half:]), mean(values[-max(1, len(values) // 10) :])
    if second < first * (1 - change):
        return "converged" if abs(tail - second) < change * max(abs(second), 1e-8) else "training"
    return "diverging" if second > first * (1 + change) else "converged"


def _overfit(pairs: Sequence[tuple[float, float]], train: Sequence[float], val: Sequence[float], change: float) -> bool:
    if len(train) < 10 or len(val) < 10:
        return False
    if _trend(train, change) == "training" and _trend(val, change) in {"diverging", "converged"}:
        return True
    half = len(pairs) // 2
    gaps = [abs(validation - loss) for loss, validation in pairs]
    return len(pairs) >= 10 and mean(gaps[half:]) > 1.3 * max(mean(gaps[:half]), 1e-8)


def _sample(values: list[float], rows: int, *, first: bool) -> list[float]:
    if first or len(values) <= rows:
        return values[:rows]
    return [values[i * len(values) // rows] for i in range(rows)]


def make(
    setup: Setup, *, rules: tuple[str, ...] = ALL, rows: int = 500, first: bool = True, change: float = 0.05
) -> Feed:
    every = max(1, setup.total_rows // 100)
    train: list[float] = []
    val: list[float] = []
    pairs: list[tuple[float, float]] = []
    seen = 0

    def ask() -> str | None:
        losses, validation = _sample(train, rows, first=first), _sample(val, rows, first=first)
        trend = _trend(losses, change) if len(losses) >= 10 else "unknown"
        if trend in rules:
            return trend
        return "overfit" if "overfit" in rules and _overfit(pairs[:rows], losses, validation, change) else None

    def feed(point: Point) -> str | None:
        nonlocal seen
        seen += 1
        if broken(point.train_loss) or broken(point.val_loss):
            return "nan" if "nan" in rules and (not first or seen <= rows) else None
        if point.train_loss is not None:
            train.append(point.train_loss)
        if point.val_loss is not None:
            val.append(point.val_loss)
            if point.train_loss is not None:
                pairs.append((point.train_loss, point.val_loss))
        return ask() if seen % every == 0 and len(train) >= 10 and (not first or seen <= rows) else None

    return feed


PEER = Peer(
    name="W&B MCP diagnose_run",
    kind="alert",
    source="wandb/wandb-mcp-server, diagnose_run.py",
    make=make,
    documented={"rules": ALL, "rows": 500, "first": True, "change": 0.05},
    grid={
        "rules": (ALL, ("nan", "diverging", "overfit"), ("nan", "diverging"), ("nan",)),
        "first": (True, False),
        "change": (0.05, 0.2, 0.5),
    },
)
