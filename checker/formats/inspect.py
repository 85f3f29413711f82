"""How a log was understood: every column with its meaning, what is missing, and what somebody has to decide."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checker import replay, source
from checker.events import Row, Unreadable
from checker.formats.format import PLAIN, Reading
from checker.names import ALIASES, ROLES, SUMMARY_MARKS, TRAIN_LOSS, VAL_LOSS, direction
from checker.tail import Tail

OURS = "training-checker"

CHOSEN, ALSO = "judged", "another name of the same; not judged"


@dataclass
class Column:
    """One name of a log and the values under it."""

    name: str
    meaning: str = ""
    direction: str = ""
    rows: int = 0
    first: float | None = None
    last: float | None = None
    low: float = math.inf
    high: float = -math.inf
    odd: int = 0
    """Values that are no finite numbers."""

    def add(self, value: float | None) -> None:
        self.rows += 1
        self.last = value
        if self.rows == 1:
            self.first = value
        if value is None or not math.isfinite(value):
            self.odd += 1
        else:
            self.low, self.high = min(self.low, value), max(self.high, value)

    def document(self) -> dict[str, Any]:
        spread = (self.low, self.high) if self.low <= self.high else (None, None)
        return {
            "column": self.name, "meaning": self.meaning, "direction": self.direction, "rows": self.rows,
            "first": self.first, "last": self.last, "low": spread[0], "high": spread[1], "not_finite": self.odd,
        }  # fmt: skip


@dataclass
class Understood:
    """A log, as it was understood."""

    path: Path
    format: str
    title: str
    about: str
    files: list[str]
    rows: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    bad: int = 0
    columns: list[Column] = field(default_factory=list)
    cannot_judge: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    """What somebody has to decide, each with how."""

    def document(self) -> dict[str, Any]:
        """As `checker inspect --json` prints it."""
        return {
            "path": str(self.path),
            "format": self.format,
            "files": self.files,
            "rows": self.rows,
            "unreadable": self.bad,
            "unreadable_lines": [bad._asdict() for bad in self.unreadable],
            "columns": [column.document() for column in self.columns],
            "cannot_judge": self.cannot_judge,
            "questions": self.questions,
        }


def inspect(path: Path, reading: Reading = PLAIN) -> Understood:
    """How the log in a folder or a file is understood.

    Raises:
        ValueError: there is none that is understood; the message says what to do.
        OSError: it cannot be read.
    """
    log = source.log_at(path, reading)
    format_ = None if isinstance(log, Tail) else log.format
    told = Understood(
        path,
        format_.name if format_ else OURS,
        format_.title if format_ else "the format of this checker, or flat JSON lines",
        format_.about if format_ else "",
        [],
    )
    columns: dict[str, Column] = {}
    found = replay.read(path, reading=reading, see=lambda event: _count(event, columns))
    told.files = [str(file) for file in source.files_of(log, path)]
    told.rows, told.bad, told.unreadable = found.rows, found.case.history.unreadable, list(found.unreadable[:5])
    told.cannot_judge = replay.cannot_judge(found.case)
    told.columns = _explained(columns)
    told.questions = list(_questions(columns)) if format_ is None or format_.loss_falls else []
    return told


_PLACES = ("step", "epoch", "at", "elapsed", "total_steps", "total_epochs", "run_id", "phase")
_TOLD = {
    "step": "the step", "epoch": "the epoch", "at": "the time", "elapsed": "seconds since the start",
    "total_steps": "the planned steps", "total_epochs": "the planned epochs", "run_id": "which run it is",
    "phase": "the phase",
}  # fmt: skip


def _count(event: object, columns: dict[str, Column]) -> None:
    if not isinstance(event, Row):
        return
    for place in _PLACES:
        value = getattr(event, place)
        if value is not None:
            name = "timestamp" if place == "at" else place
            column = columns.setdefault(f"\0{name}", Column(name, _TOLD[place]))
            column.add(value if isinstance(value, int | float) else 0.0)
    if any(mark in event.values for mark in SUMMARY_MARKS):
        return
    for name, value in event.values.items():
        columns.setdefault(name, Column(name)).add(value)


def _explained(columns: dict[str, Column]) -> list[Column]:
    """The columns with their meanings: places first, then what is judged, then the rest."""
    best: dict[str, tuple[int, str]] = {}
    for name in columns:
        role, rank = ALIASES.get(name.lower(), ("", 0))
        if role and (role not in best or (rank, name) < best[role]):
            best[role] = (rank, name)
    order = {name: place for place, (_, name) in enumerate(best[role] for role in ROLES if role in best)}
    for name, column in columns.items():
        role = ALIASES.get(name.lower(), ("", 0))[0]
        if name.startswith("\0"):
            continue
        if role:
            chosen = name == best[role][1]
            column.meaning = role if chosen else f"{role} ({ALSO})"
            column.direction = "min" if role in (TRAIN_LOSS, VAL_LOSS) else ""
        else:
            column.meaning = "not judged"
            column.direction = _by_its_name(name)
    group = {name: (0 if name.startswith("\0") else 1 if name in order else 2) for name in columns}
    return [columns[name] for name in sorted(columns, key=lambda name: (group[name], order.get(name, 0)))]


def _by_its_name(name: str) -> str:
    """Which way a metric without a role improves; nothing where its name says nothing."""
    told = direction(name)
    return f"{told}, by its name" if told == "max" or any(part in name.lower() for part in _COSTS) else ""


_COSTS = ("loss", "error", "perplexity", "wer", "mae", "mse")

_VALIDATION = frozenset({"val", "eval", "test", "valid", "dev", "validation"})


def _questions(columns: Iterable[str]) -> Iterable[str]:
    """Which of several columns is meant, where no name says it."""
    known = {ALIASES[name.lower()][0] for name in columns if name.lower() in ALIASES}
    unknown = [name for name in columns if "loss" in name.lower() and name.lower() not in ALIASES]
    late = [name for name in unknown if _VALIDATION & {*re.split("[^a-z]+", name.lower())}]
    for role, wanted in ((TRAIN_LOSS, [name for name in unknown if name not in late]), (VAL_LOSS, late)):
        if role not in known and wanted:
            names = " or ".join(wanted[:8]) + (" or …" if len(wanted) > 8 else "")
            yield (
                f"no column is the {role.replace('_', ' ')} for certain; if {names} is, say so in checker.toml: "
                f'[columns] "{wanted[0]}" = "{role}"'
            )
