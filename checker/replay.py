"""What the daemon would have done: a recorded run, read again from its first byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contract
from checker import judge, rows
from checker.detectors import RULES
from checker.events import Event, Plan, Row, Tick, Unreadable
from checker.finding import Action


@dataclass(frozen=True)
class Replay:
    """A replayed run: the case at its end and what the file held."""

    path: Path
    case: judge.Case
    rows: int
    unreadable: tuple[Unreadable, ...]

    def document(self) -> dict[str, Any]:
        """The run as `replay --json` prints it."""
        kill = self.case.kill
        return {
            "path": str(self.path),
            "rows": self.rows,
            "unreadable": len(self.unreadable),
            "findings": [_finding(finding.document()) for finding in self.case.findings],
            "verdict": {
                "kill": kill is not None,
                "rule": kill.rule if kill else None,
                "row": kill.row if kill else None,
                "step": kill.step if kill else None,
            },
            "cannot_judge": cannot_judge(self.case),
        }


def _finding(document: dict[str, Any]) -> dict[str, Any]:
    keys = ("rule", "severity", "action", "row", "step", "first_row", "summary", "evidence", "against", "episode")
    return {key: document[key] for key in keys}


def cannot_judge(case: judge.Case) -> list[str]:
    """What the log does not hold, and which rules that leaves blind."""
    history = case.history
    missing: dict[str, list[str]] = {}
    for rule in RULES:
        for role in rule.needs:
            if not history.series[role].count and role not in history.bad:
                missing.setdefault(role, []).append(rule.name)
    told = [f"no {role} in the log: {', '.join(names)}" for role, names in missing.items()]
    if history.at is None:
        told.append("no timestamps in the log: stall, throughput")
    if history.progress is None:
        told.append("no planned length declared: a plateau or an early decay of the learning rate at its end")
    return told


def lines(data: bytes) -> Iterator[Row | Unreadable]:
    """The rows of a whole file; a torn last line does not count."""
    index = 0
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        if not line.strip():
            continue
        event = rows.decode(line, index, number)
        index += isinstance(event, Row)
        yield event


def play(events: Iterable[Event], plan: Plan | None = None) -> judge.Case:
    """The case that `events` make."""
    case = judge.Case.open(plan)
    for event in events:
        judge.step(case, event)
    return case


__all__ = ["Action", "Mapping", "Replay", "Tick", "cannot_judge", "contract", "lines", "play"]
