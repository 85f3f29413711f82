"""Which settings separate one group of runs from another, and how likely chance alone would do as well."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

SHUFFLES = 2000
"""Random assignments of the runs to the two groups that a setting is compared with."""

_ALPHA = 0.05


class Separator(NamedTuple):
    """A setting by which two groups differ."""

    key: str
    effect: float
    """From 0 (no difference) to 1 (the groups do not overlap): for numbers |2 AUC - 1|, which is the rank-biserial
    correlation of Mann and Whitney's U; for anything else half the sum of the differences of shares."""
    one: Any
    """The median in the first group, or its most frequent value."""
    other: Any
    chance: float
    """How often random groups of these sizes differ as much, corrected for the number of settings (Bonferroni)."""

    @property
    def clear(self) -> bool:
        return self.chance <= _ALPHA


def separators(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], most: int = 10) -> list[Separator]:
    """The settings that separate two groups of flat configurations, the strongest first.

    Settings that are the same in all runs are left out. With fewer than two runs in a group there is nothing to say.
    """
    if min(len(one), len(other)) < 2:
        return []
    keys = list(dict.fromkeys(key for config in (*one, *other) for key in config))
    columns = {key: [config.get(key) for config in (*one, *other)] for key in keys}
    columns = {key: values for key, values in columns.items() if any(value != values[0] for value in values)}
    found = [_separator(key, values, len(one), len(columns)) for key, values in columns.items()]
    return sorted((item for item in found if item.effect > 0), key=lambda item: (item.chance, -item.effect))[:most]


def _separator(key: str, values: Sequence[Any], split: int, settings: int) -> Separator:
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        effect, chance = _tested(_ranks(values), split, _ranked)
        typical: Callable[[Sequence[Any]], Any] = median
    else:
        effect, chance = _tested([repr(value) for value in values], split, _shares)
        typical = _usual
    return Separator(key, effect, typical(values[:split]), typical(values[split:]), min(1.0, settings * chance))


def _tested(values: Sequence[Any], split: int, effect: Callable[[Sequence[Any], int], float]) -> tuple[float, float]:
    """The effect, and the share of random groups that differ at least as much, the groups as they are being one."""
    draw = random.Random(0)  # noqa: S311 - the same answer each time
    found, shuffled, reached = effect(values, split), list(values), 1
    for _ in range(SHUFFLES):
        draw.shuffle(shuffled)
        reached += effect(shuffled, split) >= found - 1e-12
    return found, reached / (SHUFFLES + 1)


def _ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value, from 1; equal values share theirs."""
    order = sorted(values)
    return [(bisect_left(order, value) + bisect_right(order, value) + 1) / 2 for value in values]


def _ranked(ranks: Sequence[float], split: int) -> float:
    """|2 AUC - 1|."""
    above = sum(ranks[:split]) - split * (split + 1) / 2
    return abs(2 * above / (split * (len(ranks) - split)) - 1)


def _shares(values: Sequence[str], split: int) -> float:
    """The total variation distance between the values of the two groups."""
    one, other = Counter(values[:split]), Counter(values[split:])
    rest = len(values) - split
    return sum(abs(one[kind] / split - other[kind] / rest) for kind in one.keys() | other.keys()) / 2


def _usual(values: Sequence[Any]) -> Any:
    return max(values, key=lambda value: sum(item == value for item in values))
