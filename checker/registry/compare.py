"""Two experiments side by side: what was set differently, what came of it, and which settings matter in the folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import contract
from checker.registry.catalog import Entry, mapping
from checker.registry.record import Record, changed, config_of, read
from checker.registry.separate import Separator, separators

_MOST = 100
"""Runs of a group that are compared; more tell no more."""


class Metric(NamedTuple):
    """One metric of two runs; a value is None where it was not measured."""

    name: str
    one: float | None
    other: float | None
    gain: float | None
    """How much better the second is; None where that cannot be said."""


class Difference(NamedTuple):
    one: Entry
    other: Entry
    config: dict[str, tuple[Any, Any]]
    metrics: list[Metric]
    shortfalls: tuple[list[str], list[str]]
    """What only the first falls short of, and what only the second does."""
    prints: dict[str, tuple[Any, Any]]
    """Fingerprints that differ: code, data, environment."""


def difference(one: Entry, other: Entry) -> Difference:
    """What is different between two experiments."""
    first, second = read(Path(one.folder)), read(Path(other.folder))
    return Difference(
        one,
        other,
        changed(config_of(one.folder), config_of(other.folder)),
        _metrics(one, other, first, second),
        _shortfalls(first, second),
        _prints(first, second),
    )


def _metrics(one: Entry, other: Entry, first: Record, second: Record) -> list[Metric]:
    """The primary metric, then all others that both have."""
    found = [_metric(one.metric, one.value, other.value, one.direction)] if one.metric == other.metric else []
    mine, theirs = _secondary(first), _secondary(second)
    found += [_metric(name, mine[name], theirs[name], "") for name in mine if name in theirs and name != one.metric]
    return found


def _metric(name: str, one: float | None, other: float | None, direction: str) -> Metric:
    known = one is not None and other is not None and math.isfinite(one) and math.isfinite(other)
    gain = contract.gain(other or 0.0, one or 0.0, direction) if known and direction else None
    return Metric(name, one, other, gain)


def _secondary(record: Record) -> dict[str, float]:
    """Every metric of a run: of its result, or the best in its status."""
    found = mapping(record.result.get("secondary_metrics")) or mapping(record.status.get("best_metrics"))
    return {str(name): number for name, value in found.items() if (number := contract.number_in(value)) is not None}


def _shortfalls(first: Record, second: Record) -> tuple[list[str], list[str]]:
    """By the tier that is missed: the values in the sentences differ anyway. Nothing where one has no result."""
    if not (first.result and second.result):
        return [], []
    sets = [
        {str(item).partition(":")[0]: str(item) for item in shortfalls if isinstance(item, str)}
        if isinstance(shortfalls := record.result.get("shortfalls"), list)
        else {}
        for record in (first, second)
    ]
    one, other = sets
    return [one[tier] for tier in one if tier not in other], [other[tier] for tier in other if tier not in one]


def _prints(first: Record, second: Record) -> dict[str, tuple[Any, Any]]:
    both = [dict(_flat(mapping(record.experiment.get("fingerprints")))) for record in (first, second)]
    return {key: pair for key, pair in changed(both[0], both[1]).items() if key != "config"}


def _flat(prints: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in prints.items():
        inside = [(f"{key}.{name}", item) for name, item in value.items()] if isinstance(value, Mapping) else []
        found += inside or [(key, value)]
    return found


class Ranking(NamedTuple):
    """Which settings tell the best runs of a folder from the worst."""

    metric: str
    best: list[Entry]
    worst: list[Entry]
    separators: list[Separator]


def ranking(entries: Sequence[Entry], metric: str, direction: str) -> Ranking | None:
    """The best and the worst third of the runs that are over, and what separates them.

    A run that failed without a finite value is among the worst. Below six runs there is nothing to say: None.
    """
    over = [entry for entry in entries if entry.over and entry.metric == metric]
    if len(over) < 6:
        return None
    sign = 1 if direction == "max" else -1

    def worth(entry: Entry) -> float:
        known = entry.value is not None and math.isfinite(entry.value)
        return sign * (entry.value or 0.0) if known else -math.inf

    order = sorted(over, key=worth, reverse=True)
    third = min(len(order) // 3, _MOST)
    best, worst = order[:third], order[-third:]
    configs = [[config_of(entry.folder) for entry in group] for group in (best, worst)]
    return Ranking(metric, best, worst, separators(configs[0], configs[1]))
