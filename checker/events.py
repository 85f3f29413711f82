"""The alphabet of the inner ring: everything the judge is ever told.

Time enters only through `Tick`, and the status file and the process only as what a tick saw of them. So the same events
in the same order always give the same findings, live or replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from contract import Experiment


class Row(NamedTuple):
    """One readable line of metrics. `index` counts such lines from 0, `line` counts all lines from 1."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    line: int
    values: Mapping[str, float | None]
    """Numbers under the names the trainer gave them; None where a number was written as null."""
    event: str = "step"
    step: int | None = None
    epoch: float | None = None
    at: float | None = None
    """Seconds since 1970 by the trainer's clock."""
    elapsed: float | None = None
    """Seconds since the trainer's process started training."""
    run_id: str | None = None
    phase: str | None = None
    total_steps: int | None = None
    total_epochs: int | None = None
    text: str | None = None
    fold: int | None = None
    """On `fold_end`: the fold that was held out, from 0."""
    folds: int | None = None


class Flat(Row):
    """A row that tells its step and numbers, and nothing else, as most rows do: of these less has to be asked."""

    __slots__ = ()


class Unreadable(NamedTuple):
    """A line that holds no JSON object. It is counted and shown, never skipped in silence."""

    line: int
    reason: str


class Life(StrEnum):
    """What is known about the training process."""

    ALIVE = "alive"
    STOPPED = "stopped"
    """Suspended by a signal or a debugger."""
    GONE = "gone"
    UNKNOWN = "unknown"
    """Another machine, another boot, or no process named: unknown is not dead."""


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One process of a distributed run, other than rank 0: what its file says, and whether it lives."""

    rank: int
    pid: int | None = None
    host: str | None = None
    state: str | None = None
    step: int | None = None
    phase: str | None = None
    beat_at: float | None = None
    """Its last heartbeat; of a rank that has ended, its end."""
    progress_at: float | None = None
    life: Life = Life.UNKNOWN
    gone_since: float | None = None
    """When the watcher first saw the process gone."""
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A look at the clock, the status file and the process, all at one moment."""

    now: float
    state: str | None = None
    run_id: str | None = None
    step: int | None = None
    phase: str | None = None
    phase_since: float | None = None
    heartbeat_at: float | None = None
    progress_at: float | None = None
    started_at: float | None = None
    life: Life = Life.UNKNOWN
    gone_since: float | None = None
    """When the watcher first saw the process gone."""
    busy: float | None = None
    """CPU use of the process and its children since the last step, as a share of one core."""
    excused: float | None = None
    """Seconds since anything moved that are not the run's: the machine slept, or the process was suspended."""
    blocked: float | None = None
    """Seconds for which the main thread has been in one uninterruptible sleep."""
    zombie: bool | None = None
    """The process has ended, and whoever started it has not taken note."""
    age: float | None = None
    """Seconds since the process began, by a clock that nobody can set; None for one that cannot be seen from here."""
    error: str | None = None
    final: bool = False
    """No more rows will ever come."""
    ranks: tuple[Rank, ...] = ()
    """Of a distributed run: the ranks other than 0, those first that others may wait for, and no more than a few."""


@dataclass(frozen=True)
class Plan:
    """What `experiment.json` declares before the first row: the yardstick that some rules need."""

    experiment: Experiment = field(default_factory=lambda: Experiment(id="", created_at=""))


Event = Row | Unreadable | Tick
