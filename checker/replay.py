"""What the daemon would have done: a recorded run, read again from its first byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from checker import journal, judge, plan, process, source
from checker.decoder import RowDecoder
from checker.detectors import RULES
from checker.events import Event, Life, Plan, Row, Tick, Unreadable
from checker.formats.format import PLAIN, Reading
from checker.history import History
from checker.rankfiles import RankFiles
from checker.status import Status, tick

KEPT = 100
"""Unreadable lines that are kept to be shown, the first ones; all are counted."""


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
            "unreadable": self.case.history.unreadable,
            "unreadable_lines": [bad._asdict() for bad in self.unreadable],
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


_SCORES = (
    "the scores of the folds ({} so far), each of another model: they are no curve, so they are looked at for NaN "
    "alone; no rule says whether a score is good, or whether folds or trials differ too much"
)


def cannot_judge(case: judge.Case) -> list[str]:
    """What the log does not hold, and which rules that leaves blind."""
    history = case.history
    missing: dict[str, list[str]] = {}
    for rule in RULES:
        for role in rule.needs:
            if not history.series[role].count and role not in history.bad:
                missing.setdefault(role, []).append(rule.name)
    folds = history.folds
    if folds is not None and not history.train.count:  # every rule about a curve is blind, so it is said once
        told = [_SCORES.format(folds.count)]
    else:
        told = [f"no {role} in the log: {', '.join(names)}" for role, names in missing.items()]
    if history.at is None:
        told.append("no timestamps in the log: stall, throughput")
    if history.progress is None:
        told.append("no planned length declared: a plateau or an early decay of the learning rate at its end")
    return told


def lines(data: bytes) -> Iterator[Row | Unreadable]:
    """The rows of a whole file; a torn last line does not count."""
    return RowDecoder().feed(data)


def play(events: Iterable[Event], plan: Plan | None = None) -> judge.Case:
    """The case that `events` make."""
    case = judge.Case.open(plan)
    for event in events:
        judge.step(case, event)
    return case


class Recording:
    """A run folder with the looks at the clock that its journal holds, or a bare file; it can be played once.

    Raises:
        ValueError: there is nothing to replay; the message says what is missing and where.
    """

    def __init__(self, path: Path, reading: Reading = PLAIN) -> None:
        self.path, self.folder = path, path if path.is_dir() else None
        self.tail = source.log_at(path, reading)
        self.tail.rewritten()
        self.plan = plan.load(self.folder)[0] if self.folder else None
        try:
            self.past = journal.recall(self.folder, self.tail.fingerprint()) if self.folder else journal.Past()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None

    def events(self, history: History) -> Iterator[Event]:
        """Everything that happened, the end included; `history` must have folded each event before the next is taken.

        Raises:
            ValueError: the file is none that can be read.
        """
        finals = {after for after, look in self.past.ticks if look.final}
        over = self.folder is None or _over(self.folder)
        recorded = chain(self.tail.events(), self.tail.rest()) if over else self.tail.events()
        yield from journal.merge(recorded, self.past.ticks)
        if self.tail.trouble:
            raise ValueError(f"{self.path}: {self.tail.trouble}")
        last = _last_look(self.folder, history)
        if last is not None and history.index not in finals:
            yield last


def read(
    path: Path,
    watch: Callable[[judge.Case], None] | None = None,
    limits: Mapping[str, Any] | None = None,
    reading: Reading = PLAIN,
    see: Callable[[Event], object] | None = None,
) -> Replay:
    """Replays a run folder or the log of any known program, by `limits` or those shipped.

    `watch` is shown the case whenever something followed from an event, `see` every event.

    Raises:
        ValueError: there is nothing to replay; the message says what is missing and where.
    """
    recording = Recording(path, reading)
    case = judge.Case.open(recording.plan, limits)
    unreadable: list[Unreadable] = []
    for event in recording.events(case.history):
        if see is not None:
            see(event)
        if judge.step(case, event) and watch is not None:
            watch(case)
        if type(event) is Unreadable and len(unreadable) < KEPT:
            unreadable.append(event)
    return Replay(path, case, recording.tail.rows, tuple(unreadable))


def _over(folder: Path) -> bool:
    """Whether nobody writes the last line of a log any more."""
    status = Status(folder)
    status.refresh()
    if status.state is None:
        return status.problem is None
    return status.state.final or process.look(process.parse(status.document)) is Life.GONE


def _last_look(folder: Path | None, history: History) -> Tick | None:
    """The look that says that no more rows will come; None while the run may still write some."""
    now = history.at or 0.0
    if folder is None:
        return Tick(now=now, final=True)
    status = Status(folder)
    status.refresh()
    if status.state is None or not status.state.final:
        return None
    ranks = RankFiles(folder).look(status.document, now, life_of=lambda _: Life.UNKNOWN)
    return replace(tick(status.document, now), final=True, ranks=ranks)
