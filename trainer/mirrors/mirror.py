"""What a mirror is, and what it is told. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from contract import Experiment, Unreadable, encode, replace
from trainer.document import read_object

FOLDER = "mirrors"
"""In the run folder: what the dashboards keep there, and by what name they know the run."""


@dataclass(frozen=True, kw_only=True)
class About:
    """The run that is mirrored."""

    folder: Path
    experiment: Experiment

    @property
    def metric(self) -> str:
        """The metric that counts; empty where none is declared."""
        return self.experiment.metric.get("name", "")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one row tells a dashboard."""

    event: str
    at: float
    """Seconds since 1970."""
    step: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Among them those that are not finite."""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class End:
    """How it ended."""

    state: str
    best: float | None = None
    """Of the metric that counts."""
    error: str = ""


class Mirror(Protocol):
    """One dashboard's view of one run. Whatever it raises is its own end, and is told."""

    def take(self, rows: Sequence[Told]) -> None:
        """Writes rows, in the order in which they were made."""

    def close(self, end: End) -> None:
        """Writes how the run ended, and lets go of everything."""


Opened = Callable[[About], Mirror]
"""Begins a mirror, or goes on with the one that an earlier attempt at the run has begun."""


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings in a configuration by their dotted names; a list is one setting."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def sentence(told: Told) -> str:
    """A remark in a row, with its place in the run."""
    return told.text if told.step is None else f"step {told.step}: {told.text}"


def known_as(folder: Path, dashboard: str) -> str | None:
    """By what name a dashboard knows the run in `folder` from an earlier attempt; None where it does not."""
    with suppress(OSError, Unreadable):
        name = read_object(_note(folder, dashboard)).get("id")
        return name if isinstance(name, str) and re.fullmatch(r"[0-9a-zA-Z_-]+", name) else None
    return None


def remember(folder: Path, dashboard: str, name: str) -> None:
    """Keeps the name, for the next attempt.

    Raises:
        OSError: it cannot be written.
    """
    path = _note(folder, dashboard)
    path.parent.mkdir(exist_ok=True)
    replace(path, encode({"id": name}))


def _note(folder: Path, dashboard: str) -> Path:
    return folder / FOLDER / f"{dashboard}.json"
