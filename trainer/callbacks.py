"""Other people's functions, called at the turns of a run. What goes wrong in one is told, and stops nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from trainer import modes
from trainer.named import load
from trainer.spec.train import Callbacks as Options

_TOLD = 20
"""Errors of one function that are told; of one that fails at each step, the rest is the same again."""


@dataclass(frozen=True)
class Moment:
    """What a function learns about the run that calls it."""

    event: str
    """`train_start`, `step_end`, `evaluation`, `epoch_end`, `checkpoint_saved` or `train_end`."""
    step: int
    epoch: int
    metrics: Mapping[str, float]
    """The last known values."""
    folder: Path
    model: nn.Module
    checkpoint: Path | None = None
    """Of `checkpoint_saved`."""


Function = Callable[[Moment], object]

_TAKEN = ("self", "step", "epoch")
"""What a row says by itself, and no metric can be called."""


class Callbacks:
    """The functions that the spec names, by event.

    Args:
        options: the spec's.
        tell: takes function, event and error of each failure.

    Raises:
        SpecError: there is no such function.
    """

    def __init__(self, options: Options, tell: Callable[[str, str, str], None]) -> None:
        self._functions: dict[str, list[tuple[str, Function]]] = {
            event: [(name, load(name, f"callbacks.{event}")) for name in names] for event, names in options if names
        }
        self._tell = tell
        self._failures: dict[str, int] = {}

    def wants(self, event: str) -> bool:
        return event in self._functions

    def call(self, moment: Moment, measured: Collection[str] = ()) -> dict[str, float]:
        """Calls the functions of an event in their order; returns the metrics that they gave.

        The model comes back in the mode it was in.

        Args:
            moment: what they learn.
            measured: names of metrics that the run has measured just now, and that nobody may replace.
        """
        found: dict[str, float] = {}
        for name, function in self._functions.get(moment.event, ()):
            try:
                with modes.kept(moment.model):
                    found |= _metrics(function(moment), measured)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code must not end a training
                self._failed(name, moment.event, error)
        return found

    def _failed(self, name: str, event: str, error: Exception | SystemExit) -> None:
        self._failures[name] = count = self._failures.get(name, 0) + 1
        if count <= _TOLD:
            last = "; it goes on being called, and no more is told of it" if count == _TOLD else ""
            self._tell(name, event, f"{type(error).__name__}: {_words(error)}{last}")


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it is somebody else's code as well
        return "(it cannot be shown)"


def _metrics(found: object, measured: Collection[str]) -> dict[str, float]:
    """What a function returned, as metrics.

    Raises:
        TypeError: it is neither nothing nor a mapping from new names to numbers.
    """
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise TypeError(f"returned {type(found).__name__}; give None, or a mapping from names to numbers")
    for name in _TAKEN:
        if name in found:
            raise TypeError(f"returned {name!r}, which each row has of its own; give the metric another name")
    for name in measured:
        if name in found:
            raise TypeError(f"returned {name!r}, which was measured here; give the metric another name")
    return {str(name): _number(name, value) for name, value in found.items()}


def _number(name: object, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"returned {name} = {value!r}, which is no number") from None
