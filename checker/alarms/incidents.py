"""From lines of the feed to what is worth an alarm: what comes together about one run is one incident.

A doomed run makes five lines within a second or two: suspected, certain, asked to stop, answered, killed. Nobody wants
five messages about it. Values in, values out: what was told, and what time it is, is for others to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import contract
from checker.alarms.policy import NOTIFY, Notify
from checker.enforce import FORCE, Did
from checker.feed import lines
from checker.finding import Severity

Line = Mapping[str, Any]
"""A line of the feed."""

CRASH = "crash"
"""The rule that says what the end of a crashed run says again."""

_ORDER = (lines.ALERT, lines.TROUBLE, lines.ACT, lines.END)
"""Which of several lines that are as bad says most: the finding, before what followed from it."""


def rank(line: Line) -> int:
    """How bad a line is; an unknown word counts as a warning."""
    severity = line.get("severity")
    return Severity(severity).rank if severity in list(Severity) else Severity.WARNING.rank


def name(line: Line) -> str:
    """The run that a line is about."""
    return str(line.get("run"))


@dataclass
class Incident:
    """Lines about one run that go into one message."""

    run: str
    first: int
    """The place in the feed of the line that began it."""
    opened: float
    """When that was read, by the clock for intervals."""
    main: Line
    """What it is about."""
    id: str = ""
    """What no other has: the key of the line that began it."""
    last: int = 0
    rules: set[str] = field(default_factory=set)
    act: Line | None = None
    """The last that was done about the run."""
    end: Line | None = None
    forced: bool = False
    """It did not stop when it was asked to."""

    @property
    def grave(self) -> bool:
        return rank(self.main) == Severity.CRITICAL.rank

    def take(self, line: Line, *, worth: bool) -> None:
        """Adds a line; one that is worth an alarm of its own may become what it is about."""
        self.last = line["seq"]
        kind = line["kind"]
        if worth and _weight(line) > _weight(self.main):
            self.main = line
        if kind == lines.ALERT and worth:
            self.rules.add(str(line.get("rule")))
        elif kind == lines.ACT:
            self.act = line
            self.forced = self.forced or line.get("act") in FORCE
        elif kind == lines.END:
            self.end = line


def _weight(line: Line) -> tuple[int, int]:
    kind = line["kind"]
    return rank(line), -_ORDER.index(kind) if kind in _ORDER else -len(_ORDER)


class Incidents:
    """The feed, folded: what of it is still to be told.

    Every line has to be taken in, from the first of the feed on, also those that were told: whether an end is worth a
    word depends on what was said before it.

    Args:
        told: whether a line about a run, by its place, was told.
        policy: what is worth an alarm.
    """

    def __init__(self, told: Callable[[str, int], bool], policy: Notify = NOTIFY) -> None:
        self.policy = policy
        self.open: dict[str, Incident] = {}
        """What is to be told, by run."""
        self._told = told
        self._known: dict[str, set[str]] = {}
        """Why a run is about to end, where a rule has said so."""

    def take(self, line: Line, now: float) -> None:
        run, worth = name(line), self._worth(line)
        self._note(line)
        if self._told(run, line["seq"]):
            return
        incident = self.open.get(run)
        if incident is None:
            if not worth:
                return
            incident = self.open[run] = Incident(run, line["seq"], now, line, str(line.get("key")))
        incident.take(line, worth=worth)

    def _worth(self, line: Line) -> bool:
        """Whether a line deserves a message, even if nothing else comes."""
        kind, known = line["kind"], self._known.get(name(line), ())
        if kind == lines.TROUBLE:
            return True
        if kind == lines.ACT:  # it could not be stopped
            return rank(line) == Severity.CRITICAL.rank
        if kind == lines.END and line.get("state") in known:
            return False
        return kind in (lines.ALERT, lines.END) and rank(line) >= Severity(self.policy.min_severity).rank

    def _note(self, line: Line) -> None:
        run, kind = name(line), line["kind"]
        if kind == lines.ALERT and line.get("rule") == CRASH:
            self._known.setdefault(run, set()).add(lines.CRASHED)
        elif kind == lines.ACT and line.get("act") == Did.REQUESTED and line.get("rule") is not None:
            self._known.setdefault(run, set()).add(str(contract.State.KILLED))
        elif kind == lines.END:
            self._known.pop(run, None)
