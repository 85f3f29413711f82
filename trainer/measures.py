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
        self._marks = _Marks(declared)

    def see(self, name: str, value: float) -> None:
        """Takes note of a value; NaN and infinity are never the best."""
        sign, height = self._marks[name]
        if height < value * sign < math.inf:
            self._marks[name] = sign, value * sign
            self.values[name] = value

    def see_all(self, numbers: Mapping[str, float]) -> None:
        """Takes note of a value of each of some metrics."""
        for name, value in numbers.items():
            self.see(name, value)

    def see_floats(self, numbers: Mapping[str, Any]) -> bool:
        """As `see_all`, for the call between two steps: returns False at whatever is no finite float, in the middle."""
        marks = self._marks
        for name, value in numbers.items():
            if type(value) is not float or value - value:  # infinity less itself is NaN, and that is true
                return False
            sign, height = marks[name]
            if value * sign > height:
                marks[name] = sign, value * sign
                self.values[name] = value
        return True

    def restore(self, values: Any) -> None:
        """Takes over what an earlier part of the same run had reached; what is no number is skipped."""
        self.see_all(dict(_numbers(values)))


class _Marks(dict[str, tuple[int, float]]):
    """For each metric the sign that turns its values so that higher is better, and the height to pass.

    A metric whose direction nobody knows has the sign 0, with which nothing is ever above 0.
    """

    def __init__(self, declared: Mapping[str, str]) -> None:
        super().__init__()
        self._declared = dict(declared)

    def __missing__(self, name: str) -> tuple[int, float]:
        direction = self._declared.get(name) or direction_of(name)
        mark = self[name] = {"min": (-1, -math.inf), "max": (1, -math.inf), None: (0, 0.0)}[direction]
        return mark


def _numbers(values: Any) -> Iterator[tuple[str, float]]:
    if isinstance(values, Mapping):
        for name, value in values.items():
            if isinstance(value, int | float):
                yield str(name), float(value)
