"""The words that the parts of the outer ring use with one another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from checker.finding import Severity


class Mode(StrEnum):
    """How far the checker may go."""

    ACT = "act"
    OBSERVE = "observe"
    """Journal what would have been stopped; touch nothing."""
    JUDGE = "judge"
    """Journal findings only."""


@dataclass(frozen=True)
class Moment:
    """One reading of both clocks: one for people and files, one for intervals."""

    wall: float
    mono: float
    slept: float = 0.0
    """Seconds for which the checker itself has stood still, all naps together."""
    stood: float = 0.0
    """The same by the clock for intervals, which a person or a time server cannot set."""

    @classmethod
    def now(cls) -> Moment:
        return cls(time.time(), time.monotonic())


@dataclass(frozen=True)
class Notice:
    """One line for whoever watches the checker."""

    run: str
    text: str
    severity: Severity = Severity.INFO
    rule: str = ""
    event: str = "note"
    """What it is, for programs: `finding`, `recovered`, a state, or a step of a pursuit."""


class Complaint(Exception):
    """What the user asked for and why it cannot be done: one sentence, or one line for each fault of a file."""
