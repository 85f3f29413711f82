"""Every experiment in a folder of experiments, from the files that trainer and checker left there."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import contract
from checker import names
from checker.finding import Severity
from checker.report.wording import in_rows

TIERS = ("must_pass", "should_pass", "could_pass")
"""From the floor to the stretch: who reaches one has reached those before it."""

_SOURCES = (contract.EXPERIMENT, contract.STATUS, contract.FINDINGS)

Stamps = tuple[contract.Stamp | None, ...]


@dataclass(frozen=True)
class Entry:
    """One experiment as its files tell it."""

    id: str
    folder: str
    parent: str | None = None
    status: str = "pending"
    hypothesis: str = ""
    metric: str = ""
    direction: str = "min"
    value: float | None = None
    gain: float | None = None
    """How much better than the parent: positive is better, whichever way the metric improves."""
    tier: str = ""
    finding: str = ""
    error: str = ""


def entries(root: Path) -> list[Entry]:
    """Every experiment folder directly in `root`, in the natural order of their names.

    A folder that cannot be read becomes an entry with an `error` and costs the others nothing.

    Raises:
        OSError: `root` itself cannot be listed.
    """
    with os.scandir(root) as found:
        folders = sorted(
            (item.name for item in found if not item.name.startswith(".") and _is_folder(item)), key=natural
        )
    known = [entry for name in folders if (entry := _entry_of(root / name)) is not None]
    by_id = {entry.id: entry for entry in known}
    return [_compared(entry, by_id.get(entry.parent or "")) for entry in known]


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which exp-9 comes before exp-10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part[:18]) if part.isdecimal() else -1, part) for part in parts]


def _is_folder(item: os.DirEntry[str]) -> bool:
    with suppress(OSError):
        return item.is_dir()
    return False


def _entry_of(folder: Path) -> Entry | None:
    """The entry of one folder, or None when it is no experiment's."""
    try:
        stamps = tuple(_stamp(f"{folder}{os.sep}{name}") for name in _SOURCES)
        if not any(stamps) and not (folder / contract.METRICS).exists():
            return None
        return _read(str(folder), stamps)
    except (OSError, contract.Unreadable) as error:
        reason = str(error).replace(f"{folder}{os.sep}", "")
        return Entry(folder.name, str(folder), status="unreadable", error=reason)


def _stamp(path: str) -> contract.Stamp | None:
    try:
        return contract.stamp(os.stat(path))
    except FileNotFoundError:
        return None


@lru_cache(maxsize=1 << 16)
def _read(folder: str, stamps: Stamps) -> Entry:
    """The entry in files with these stamps: of ten thousand folders usually one has changed since the last look."""
    path = Path(folder)
    document = _document(path / contract.EXPERIMENT) if stamps[0] else {}
    status = _document(path / contract.STATUS) if stamps[1] else None
    experiment = contract.Experiment.parse(document)
    state = str(contract.run_state(status)) if status is not None else str(contract.State.PENDING)
    finding, forced = _top_finding(path / contract.FINDINGS) if stamps[2] else (None, "")
    if state == contract.State.RUNNING:  # perhaps nobody is left to say otherwise in the status file
        if forced and forced.startswith(f"{(status or {}).get('run_id') or 'run'}/"):
            state = str(contract.State.KILLED)
        elif finding is not None and finding.get("rule") == "crash":
            state = "crashed"
    metric, value = _primary(experiment.metric, status or {})
    declared = _mapping(experiment.metric).get("direction")
    direction = str(declared) if declared in ("min", "max") else names.direction(metric)
    return Entry(
        id=str(experiment.id or path.name),
        folder=folder,
        parent=str(experiment.parent) if experiment.parent else None,
        status=state,
        hypothesis=str(experiment.hypothesis or experiment.name),
        metric=metric,
        direction=direction,
        value=value,
        tier=_tier(_mapping(experiment.tiers), value, direction),
        finding=_said(finding),
    )


def _document(path: Path) -> dict[str, Any]:
    return contract.decode_object(path.read_bytes(), str(path))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _primary(declared: object, status: Mapping[str, Any]) -> tuple[str, float | None]:
    """The primary metric and its best value; the first validation metric where none is declared."""
    best = _mapping(status.get("best_metrics"))
    name = str(_mapping(declared).get("name") or "")
    if not name:
        name = next((str(key) for key in best if "val" in str(key).lower()), str(next(iter(best), "")))
    value = contract.number_in(best.get(name))
    return name, value if value is not None and math.isfinite(value) else None


def _tier(tiers: Mapping[str, Any], value: float | None, direction: str) -> str:
    """The highest tier reached with all tiers below it; `none` when even the floor was missed."""
    lines = [(tier, line) for tier in TIERS if (line := contract.number_in(tiers.get(tier))) is not None]
    if value is None or not lines:
        return ""
    reached = "none"
    for tier, line in lines:
        if not (value >= line if direction == "max" else value <= line):
            break
        reached = tier
    return reached


def _top_finding(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The most severe finding that is not over, the earlier of two equals, and the one the process was killed for.

    Remarks do not count.
    """
    forced = ""
    still: dict[tuple[str, Any], dict[str, Any]] = {}
    with path.open("rb") as file:
        for line in file:
            # Most lines are acts and looks at the clock; telling them apart does not need a parser.
            kind = _kind(line)
            if kind is None:
                continue
            entry = _parsed(line)
            key = (str(entry.get("rule")), entry.get("episode"))
            if kind == b"file":
                still.clear()
            elif kind == b"recovered":
                still.pop(key, None)
            elif entry.get("act") == "sigkill":
                forced = str(entry.get("finding"))
            elif entry.get("severity") in (Severity.WARNING, Severity.CRITICAL):
                still.pop(key, None)
                still[key] = entry
    return max(still.values(), key=_weight, default=None), forced


def _weight(entry: Mapping[str, Any]) -> tuple[int, bool]:
    return Severity(entry["severity"]).rank, entry.get("action") == "kill"


_KIND = re.compile(rb'"(?:kind|act)":\s*"(finding|recovered|file|sigkill)"')


def _kind(line: bytes) -> bytes | None:
    found = _KIND.search(line)
    return found[1] if found else None


def _parsed(line: bytes) -> dict[str, Any]:
    """The entry in a line of the journal; a torn line is an empty one."""
    with suppress(ValueError, RecursionError):
        entry = json.loads(line)
        if isinstance(entry, dict) and isinstance(entry.get("kind"), str):
            return entry
    return {}


def _said(finding: Mapping[str, Any] | None) -> str:
    if finding is None:
        return ""
    stepless = finding.get("step") is None  # rules then count rows, and a row should not be called a step
    at = finding.get("first_row") if stepless else finding.get("first_step", finding.get("step"))
    where = f" at {'row' if stepless else 'step'} {at}" if isinstance(at, int) else ""
    summary = str(finding.get("summary", ""))
    return f"{finding.get('rule')}{where}: {in_rows(summary) if stepless else summary}"


def _compared(entry: Entry, parent: Entry | None) -> Entry:
    if parent is None or entry.value is None or parent.value is None or entry.metric != parent.metric:
        return entry
    gain = parent.value - entry.value if entry.direction == "min" else entry.value - parent.value
    return replace(entry, gain=gain)
