"""What a script hands over as a metric: a plain number, and which direction is better. Standard library only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_MIN = {"loss", "error", "perplexity", "ppl", "nll", "mae", "mse", "rmse", "mape", "wer", "cer", "fid", "bits"}
_MAX = {"accuracy", "acc", "auc", "auroc", "auprc", "f1", "precision", "recall", "bleu", "rouge", "iou", "map", "r2"}


def as_number(name: str, value: Any) -> float:
    """`value` as a plain number; anything with `.item()` (a tensor or NumPy scalar) is asked for it.

    Raises:
        TypeError: `value` is no number.
    """
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    raise TypeError(f"metric {name!r} is {value!r} ({type(value).__name__}); give a number or a one-element tensor")


def as_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """`values` as plain numbers; None means "not measured" and is left out."""
    return {name: as_number(name, value) for name, value in values.items() if value is not None}


def direction_of(name: str) -> str | None:
    """`min` or `max` where a name says it beyond doubt, else None: a guess would keep the worst value as the best."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    if words & _MIN:
        return "min"
    return "max" if words & _MAX else None


class Best:
    """The best finite value of every metric whose direction is known; a declared direction outranks the name."""

    def __init__(self, declared: Mapping[str, str]) -> None:
        self.values: dict[str, float] = {}
        self._declared = dict(declared)
        self._signs: dict[str, int] = {}

    def see(self, name: str, value: float) -> bool:
        """Takes note of a value. Returns True when it is the best so far; NaN and infinity never are."""
        sign = self._signs.get(name)
        if sign is None:
            direction = self._declared.get(name) or direction_of(name)
            sign = self._signs[name] = {"min": -1, "max": 1, None: 0}[direction]
        if not sign or not math.isfinite(value):
            return False
        best = self.values.get(name)
        if best is not None and (value - best) * sign <= 0:
            return False
        self.values[name] = value
        return True

    def restore(self, values: Any) -> None:
        """Takes over what an earlier part of the same run had reached; what is no number is skipped."""
        for name, value in _numbers(values):
            self.see(name, value)


def _numbers(values: Any) -> Iterator[tuple[str, float]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            if isinstance(value, int | float):
                yield str(name), float(value)
