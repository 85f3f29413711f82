"""What every peer is given and what it answers: points in, the reason of a first verdict out, past-only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, NamedTuple


class Point(NamedTuple):
    """One measured row, under the names the peers know. What the row did not say is None; NaN and Inf are kept."""

    row: int
    step: int | None = None
    epoch: float | None = None
    total_steps: int | None = None
    """The planned length, where the log or its experiment.json declares one."""
    done: float = 0.0
    """The share of the planned training that is done, as the framework that hosts the peer would know it."""
    train_loss: float | None = None
    val_loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    accuracy: float | None = None
    val_accuracy: float | None = None


EPOCHS = 50
"""Validations in a run whose log names neither a validation loss nor at least FEW epochs."""

FEW = 10

MANY = 1000
"""Epochs of a run at most: some peers look at all epochs so far in each."""


class Setup(NamedTuple):
    """What a person who sets the peer up knows before the first row."""

    total_rows: int = 1000
    """Rows that the run is planned to have."""
    has_val: bool = False
    """The log has a validation loss: a peer that monitors one metric monitors that."""
    epochs: int = EPOCHS
    """How often a callback that runs once per epoch will be asked, where the log has no validation loss."""
    program: dict[str, Any] = {}  # noqa: RUF012  # a scratch pad on purpose, see below
    """What a peer that compares runs remembers of the earlier runs of the same program."""


Feed = Callable[[Point], str | None]
"""Takes the next point; answers with a reason when the peer would say something."""


@dataclass(frozen=True)
class Peer:
    """A detector by others, with the limits that its documents name and a small grid around them."""

    name: str
    kind: str
    """`stop`: its verdict ends the training; `alert`: it only tells."""
    source: str
    make: Callable[..., Feed]
    documented: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    package: str = ""
    """The distribution that is driven; empty for a restatement in our own words."""
    compares: bool = False
    """It compares a run with the earlier runs of its program, so those must be played in order."""

    @property
    def version(self) -> str | None:
        """The version of the driven package; None when it is not installed, empty when none is needed."""
        if not self.package:
            return ""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None

    def variants(self) -> Iterator[dict[str, Any]]:
        """The documented limits, then every other choice from the grid."""
        documented = dict(self.documented)
        yield documented
        for values in itertools.product(*self.grid.values()):
            chosen = {**documented, **dict(zip(self.grid, values, strict=True))}
            if chosen != documented:
                yield chosen


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def broken(value: float | None) -> bool:
    """A number was there, and it was NaN or infinite."""
    return value is not None and not math.isfinite(value)


def mean(values: Sequence[float]) -> float:
    """The plain mean. statistics.fmean raises where a sum passes the largest float, and runs do get there."""
    return sum(values) / len(values)


Reader = Callable[[Point], tuple[float | None, float | None] | None]


def epochs(setup: Setup) -> Reader:
    """A reader that turns rows into epochs (train loss, validation loss), and says None while one goes on.

    Callbacks that run once per epoch or validation must not be asked at every logged step: that would make noise of
    single batches their business. An epoch ends where the log has a validation loss; without any in the log, after
    an equal share of the planned rows. Its train loss is the mean of its rows; a non-finite one makes it non-finite.
    """
    length = max(1, setup.total_rows // (MANY if setup.has_val else setup.epochs))
    losses: list[float] = []
    rows = 0

    def read(point: Point) -> tuple[float | None, float | None] | None:
        nonlocal rows
        rows += 1
        if point.train_loss is not None:
            losses.append(point.train_loss)
        ends = point.val_loss is not None if setup.has_val else bool(losses)
        if not ends or rows < length:
            return None
        train = mean(losses) if losses else None
        losses.clear()
        rows = 0
        return train, point.val_loss

    return read


def monitored(setup: Setup) -> Callable[[Point], float | None]:
    """A reader of the one metric that an early stopping callback monitors: validation loss, else train loss."""
    read = epochs(setup)

    def value(point: Point) -> float | None:
        epoch = read(point)
        return None if epoch is None else epoch[1] if setup.has_val else epoch[0]

    return value
