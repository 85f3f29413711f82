"""What a rule saw, and what the judge made of it: numbers and rows, never formatted sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

SWEEP = "sweep"
"""In the name of this runs are stopped whose siblings have failed alike; it is no rule of their own."""


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return ("info", "warning", "critical").index(self)


class Action(StrEnum):
    NONE = "none"
    ALERT = "alert"
    KILL = "kill"


class Grade(IntEnum):
    """How far a rule goes on what it sees: note it, suspect it, be sure of it."""

    NOTE = 0
    SUSPECT = 1
    SURE = 2


Evidence = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A rule's answer: it is true now, since `first_row`, and these are the numbers."""

    grade: Grade
    first_row: int
    first_step: int | None
    summary: str
    evidence: Evidence
    against: tuple[str, ...] = ()
    """What speaks for another cause, or for no fault at all."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A sighting that lasted: what is journaled, acted on and reported."""

    rule: str
    severity: Severity
    action: Action
    row: int
    step: int | None
    first_row: int
    first_step: int | None
    summary: str
    evidence: Evidence = field(default_factory=dict)
    against: tuple[str, ...] = ()
    run_id: str | None = None
    episode: int = 0

    @property
    def id(self) -> str:
        """The same finding has the same id in the daemon, after its restart and in a replay."""
        return f"{self.run_id or 'run'}/{self.rule}/{self.episode}/{self.severity}"

    def document(self) -> dict[str, Any]:
        return {"id": self.id, **asdict(self), "against": list(self.against)}
