"""A quick look at many runs: their status files, their last rows and their journals, without judging anything."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import contract
from checker import enforce, journal, limits, places, process, rows, source
from checker.clean import clean
from checker.decoder import RowDecoder
from checker.events import Life, Row
from checker.finding import Severity
from checker.formats import text
from checker.formats.format import PLAIN, Reading
from checker.names import ALIASES, TRAIN_LOSS
from checker.opened import Opened
from checker.places import folders
from checker.show import Line
from checker.status import Status

_TAIL = 1 << 16
"""Bytes of the end of a log in which the last loss is looked for."""


def lines(root: Path) -> list[Line]:
    """One line per run folder at or below `root`."""
    text.teach(_reading(root).patterns)
    return [line(folder, folder.name if folder == root else str(folder.relative_to(root))) for folder in folders(root)]


def line(folder: Path, name: str) -> Line:
    """The line of one run, which is called `name`."""
    status = Status(folder)
    status.refresh()
    document = status.document
    last, loss = _last_rows(folder / contract.METRICS)
    if last is None and places.foreign(folder):
        last, loss = _last_of(folder)
    try:
        found, severity, ended = _journaled(folder)
    except (OSError, contract.Unreadable) as error:
        found, severity, ended = f"journal unreadable: {str(error).rpartition('/')[2]}", Severity.WARNING, []
    running = status.state is contract.State.RUNNING
    state = str(status.state) if status.state else "status unreadable" if status.problem else "no status"
    named = process.parse(document)
    if running and process.look(named) is Life.GONE:
        state, running = str(contract.State.KILLED) if named in ended else "process gone", False
    step = document.get("step", last.step if last else None)
    total = document.get("total_steps")
    at = rows.seconds(document.get("heartbeat_at")) or (last.at if last else None) or 0.0
    return Line(
        clean(name, 40),
        clean(state, 24),
        clean(f"{step if step is not None else '-'}{f'/{total}' if total else ''}", 24),
        clean(document.get("phase") or "-", 16),
        loss,
        clean(found or "-", 60),
        severity,
        (0 if running else 1, -at),
    )


def _last_rows(path: Path) -> tuple[Row | None, str]:
    """The last row of a log and the last train loss in its end."""
    try:
        with Opened(path) as fd:
            if fd is None:
                return None, "-"
            start = max(0, os.fstat(fd).st_size - _TAIL)
            data = os.pread(fd, _TAIL, start)
    except OSError:
        return None, "-"
    if start:
        data = data.partition(b"\n")[2]
    found = [event for event in RowDecoder().feed(data) if isinstance(event, Row)]
    losses = [loss for row in found if (loss := _loss(row.values)) is not None]
    return (found[-1] if found else None), (losses[-1] if losses else "-")


def _reading(folder: Path) -> Reading:
    """How a log is to be understood; wrong limits are other commands' business."""
    try:
        return limits.in_force_above(folder).reading
    except limits.LimitsError:
        return PLAIN


def _last_of(folder: Path) -> tuple[Row | None, str]:
    """The same of another program's log, which has to be read from its beginning."""
    log = source.log_of(folder, _reading(folder))
    log.rewritten()
    last, loss = None, "-"
    for event in log.events():
        if isinstance(event, Row):  # rows of an evaluation may have no step of their own
            step = event.step if event.step is not None or last is None else last.step
            last, loss = event._replace(step=step), _loss(event.values) or loss
    return last, loss


def _loss(values: Mapping[str, float | None]) -> str | None:
    names = sorted((name for name in values if ALIASES.get(name.lower(), ("",))[0] == TRAIN_LOSS), key=_rank)
    if not names:
        return None
    value = values[names[0]]
    return "null" if value is None else f"{value:.5g}" if math.isfinite(value) else str(value)


def _rank(name: str) -> int:
    return ALIASES[name.lower()][1]


def _journaled(folder: Path) -> tuple[str, Severity, list[contract.Process]]:
    """The rules that have something open in the journal, the gravest severity among them, and whom we had to signal."""
    open_: dict[str, dict[str, Any]] = {}
    asked: dict[str, contract.Process | None] = {}
    signalled: list[contract.Process] = []
    for entry in journal.entries(folder):
        if entry is None:
            continue
        rule, about = entry.get("rule"), str(entry.get("finding"))
        if entry["kind"] == "file":
            open_.clear()
        elif entry["kind"] == "finding" and isinstance(rule, str):
            open_[rule] = entry
        elif entry["kind"] == "recovered":
            open_.pop(str(rule), None)
        elif entry.get("act") == enforce.Did.REQUESTED:
            asked[about] = process.parse(entry)
        elif entry.get("act") in enforce.FORCE and (named := asked.get(about)) is not None:
            signalled.append(named)
    known = [Severity(item["severity"]) for item in open_.values() if item.get("severity") in list(Severity)]
    worst = max(known, key=lambda severity: severity.rank, default=Severity.INFO)
    return ", ".join(open_), worst, signalled
