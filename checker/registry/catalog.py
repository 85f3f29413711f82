"""Every experiment in a folder of experiments, from the files that trainer, checker and people left there."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

import contract
from checker import jsonlines, names, process
from checker.events import Life
from checker.finding import Severity
from checker.places import has_log, is_run
from checker.registry.files import MAX_SIZE, stamp
from checker.wording import in_rows

CRASHED = "crashed"
"""The status of a run whose process went without a word: its status file still says running."""

UNKNOWN = "unknown"
"""Something was trained, and no status file says what has become of it."""

UNREADABLE = "unreadable"

_NO_NOTE = contract.Hypothesis()

_OVER = frozenset({CRASHED, *(str(state) for state in contract.State if state.final)})

_NEEDED = (contract.EXPERIMENT, contract.STATUS)
_OPTIONAL = (contract.HYPOTHESIS, contract.RESULT, contract.FINDINGS, contract.PROMOTIONS)

Stamps = tuple[contract.Stamp | None, ...]


class Entry(NamedTuple):
    """One experiment as its files tell it."""

    id: str
    folder: str
    parent: str | None = None
    status: str = "pending"
    hypothesis: str = ""
    rationale: str = ""
    metric: str = ""
    direction: str = "min"
    value: float | None = None
    """The primary metric: of the result, or the best so far. NaN when that is what came out."""
    gain: float | None = None
    """How much better than the parent: positive is better, whichever way the metric improves."""
    tier: str = ""
    shortfall: str = ""
    """The lowest tier that a run which is over has missed, and by how much."""
    finding: str = ""
    rule: str = ""
    """The rule behind `finding`."""
    failure: str = ""
    """What runs that fail the same way have in common; empty for a run that has not failed."""
    process: contract.Process | None = None
    """Who runs it, as its status says; None for a run that is not running."""
    step: int | None = None
    """How far it has come, as its status says."""
    sweep: str = ""
    """The sweep that it belongs to, as its record says."""
    created_at: str = ""
    tags: tuple[str, ...] = ()
    promoted: bool = False
    """Whether one of its checkpoints is promoted."""
    error: str = ""
    """Why the folder cannot be read."""
    remark: str = ""
    """What is odd about it although it can be read: a copied folder, a parent that is not there, a newer format."""

    @property
    def name(self) -> str:
        return os.path.basename(self.folder)

    @property
    def standing(self) -> str:
        """Its status as a table shows it."""
        return f"{self.status}, promoted" if self.promoted else self.status

    @property
    def over(self) -> bool:
        return self.status in _OVER

    def document(self) -> dict[str, Any]:
        """The entry for programs; what is empty is left out."""
        found = {**self._asdict(), "name": self.name, "tags": list(self.tags), "process": None}
        return {key: value for key, value in found.items() if value not in ("", None, [], False)}


def entries(root: Path) -> list[Entry]:
    """Every experiment folder directly in `root`, in the natural order of their names.

    A folder that cannot be read becomes an entry with an `error` and costs the others nothing.

    Raises:
        OSError: `root` itself cannot be listed.
    """
    return related([entry for entry in each(root) if entry is not None])


def each(root: Path) -> Iterator[Entry | None]:
    """What each folder in `root` tells by itself, in their natural order; None for one that is no experiment's.

    Raises:
        OSError: `root` itself cannot be listed.
    """
    with os.scandir(root) as found:
        folders = sorted(
            (item.name for item in found if not item.name.startswith(".") and _is_folder(item, root)), key=natural
        )
    for name in folders:
        entry = entry_of(f"{root}{os.sep}{name}")
        yield None if entry is None else _alive(entry)


def related(known: list[Entry]) -> list[Entry]:
    """The entries with what they are to one another: parents, gains, and ids that occur twice."""
    known = _told_apart(known)
    by_id = {entry.id: entry for entry in known}
    circles = _circles(by_id)
    return [_related(entry, by_id, circles) for entry in known]


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which exp-9 comes before exp-10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part[:18]) if part.isdecimal() else -1, part) for part in parts]


def _is_folder(item: os.DirEntry[str], root: Path) -> bool:
    """Whether it is a folder, and not one of those beside it under another name."""
    with suppress(OSError):
        if item.is_symlink() and os.path.dirname(os.path.realpath(item.path)) == os.path.realpath(root):
            return False
        return item.is_dir()
    return False


def entry_of(folder: Path | str) -> Entry | None:
    """The entry of one folder, or None when it is no experiment's."""
    place = f"{folder}{os.sep}"
    try:
        stamps = [stamp(place + name) for name in _NEEDED]
        more, odd = _optional(place)
        stamps += more
        if not any(stamps) and not odd and not is_run(Path(folder)):
            return None
        entry = _read(str(folder), tuple(stamps))
        if entry.status == contract.State.PENDING and has_log(Path(folder)):
            entry = entry._replace(status=UNKNOWN)
    except (OSError, contract.Unreadable) as error:
        told = f"cannot be read ({error.strerror})" if isinstance(error, OSError) and error.strerror else str(error)
        return Entry(os.path.basename(folder), str(folder), status=UNREADABLE, error=told.replace(place, ""))
    return entry._replace(remark="; ".join(filter(None, (entry.remark, *odd)))) if odd else entry


def _optional(place: str) -> tuple[Stamps, list[str]]:
    """The stamps of the files without which an experiment is one too, and what is odd about them."""
    stamps, odd = list[contract.Stamp | None](), list[str]()
    for name in _OPTIONAL:
        try:
            stamps.append(stamp(place + name, None if name == contract.FINDINGS else MAX_SIZE))
        except contract.Unreadable as error:
            stamps.append(None)
            odd.append(str(error).replace(place, ""))
    return tuple(stamps), odd


@lru_cache(maxsize=1 << 16)
def _read(folder: str, stamps: Stamps) -> Entry:
    """The entry in files with these stamps: of ten thousand folders usually one has changed since the last look."""
    place = f"{folder}{os.sep}"
    about, at, noted, ended, journal, gate = stamps
    document = read_object(place + contract.EXPERIMENT) if about else {}
    status = read_object(place + contract.STATUS) if at else None
    note = note_of(Path(folder)) if noted else _NO_NOTE
    finding, forced = _top_finding(place + contract.FINDINGS) if journal else (None, "")
    state = _state(status, finding, forced)
    done = ended and state == contract.State.COMPLETED
    result, trouble = _result(place + contract.RESULT, document) if done else ({}, "")
    metric, direction, value = _primary(document.get("metric"), status or {}, result)
    tier, shortfalls = contract.tier(mapping(document.get("tiers")), value, direction, name=metric)
    tags, over, step = document.get("tags"), state in _OVER, (status or {}).get("step")
    return Entry(
        id=str(document.get("id") or note.exp_id or os.path.basename(folder)),
        folder=folder,
        parent=str(document.get("parent") or note.parent or "") or None,
        status=state,
        hypothesis=str(note.claim or document.get("hypothesis") or document.get("name") or ""),
        rationale=str(note.rationale or document.get("rationale") or ""),
        metric=metric,
        direction=direction,
        value=value,
        tier="" if value is None or (tier == contract.MISSED and not over) else tier or "",
        shortfall=shortfalls[0] if over and shortfalls else "",
        finding=_said(finding),
        rule=str(finding.get("rule")) if finding else "",
        failure=_failure(state, status or {}, finding),
        process=process.parse(status) if status and state == contract.State.RUNNING else None,
        step=step if type(step) is int else None,
        sweep=str(document.get("sweep") or ""),
        created_at=str(document.get("created_at") or ""),
        tags=tuple(map(str, tags)) if isinstance(tags, list) else (),
        promoted=bool(gate) and _promoted(place + contract.PROMOTIONS),
        remark="; ".join(filter(None, (_newer(document), _strange(status or {}), trouble))),
    )


_HUGE = re.compile(rb"\d{%d}" % contract.MOST_DIGITS)
"""A number that the quick reader would hand on as it is, although nothing can be computed with it."""


def read_object(path: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: it cannot be read.
        contract.Unreadable: it is no JSON object, or no plain file.
    """
    data, _ = contract.read_plain(path)
    try:
        found = None if _HUGE.search(data) else from_json(data)
    except ValueError:
        return contract.decode_object(data, path)  # accepts a byte order mark, and says what is wrong
    return found if isinstance(found, dict) else contract.decode_object(data, path)


def note_of(folder: Path) -> contract.Hypothesis:
    """What a person wrote into `hypothesis.md`; nothing where there is no such file."""
    with suppress(OSError, contract.Unreadable):
        text, _ = contract.read_plain(folder / contract.HYPOTHESIS)
        return contract.Hypothesis.parse(text.decode("utf-8-sig", "replace"))
    return contract.Hypothesis()


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _newer(document: Mapping[str, Any]) -> str:
    version = document.get("v")
    if isinstance(version, int) and version > contract.FORMAT:
        return f"{contract.EXPERIMENT} is in format {version}; this checker knows up to {contract.FORMAT}: upgrade it"
    return ""


def _state(status: Mapping[str, Any] | None, finding: Mapping[str, Any] | None, forced: str) -> str:
    """The state that the status file claims, unless the journal knows that nobody is left to say otherwise there."""
    if status is None:
        return str(contract.State.PENDING)
    state = contract.run_state(status)
    if state is contract.State.RUNNING and forced and forced.startswith(f"{status.get('run_id') or 'run'}/"):
        return str(contract.State.KILLED)
    if state is contract.State.RUNNING and finding is not None and finding.get("rule") == "crash":
        return CRASHED
    return str(state)


def _result(path: str, experiment: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The primary metric in `result.json`, and what is odd about the file; another experiment's does not count."""
    try:
        document = read_object(path)
    except (OSError, contract.Unreadable):
        return {}, f"{contract.RESULT} cannot be read"
    if document.get("experiment_id") in (None, experiment.get("id")):
        return mapping(document.get("primary_metric")), ""
    return {}, f"{contract.RESULT} is about {document['experiment_id']}"


def _strange(status: Mapping[str, Any]) -> str:
    """A state that there is not."""
    state = status.get("state")
    known = state is None or state in list(contract.State)
    return "" if known else f"{contract.STATUS} says {state!r}, which is no state: taken for running"


def _primary(declared: object, status: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[str, str, float | None]:
    """Name, direction and value of the primary metric; the first validation metric where none is declared."""
    best = mapping(status.get("best_metrics"))
    name = str(mapping(declared).get("name") or result.get("name") or "")
    if not name:
        name = next((str(key) for key in best if "val" in str(key).lower()), str(next(iter(best), "")))
    known = mapping(declared).get("direction") or result.get("direction")
    direction = str(known) if known in ("min", "max") else names.direction(name)
    if result.get("name") == name and (value := contract.number_in(result.get("value"))) is not None:
        return name, direction, value
    value = contract.number_in(best.get(name))
    return name, direction, value if value is not None and math.isfinite(value) else None


def _promoted(path: str) -> bool:
    """Whether the last word about a promotion is not that it was taken back."""
    with suppress(OSError, contract.Unreadable), jsonlines.opened(path) as file:
        found = map(_parsed, jsonlines.lines_of(file))
        acts = [act for act in found if act.get("kind") in ("promoted", "revoked")]
        return bool(acts) and in_force(acts[-1])
    return False


def in_force(act: Mapping[str, Any]) -> bool:
    """Whether the last line about promotions says that a checkpoint is promoted."""
    return act.get("kind") == "promoted" and isinstance(mapping(act.get("checkpoint")).get("sha256"), str)


# ------------------------------------------------------------------------------------------ findings and failures


def _top_finding(path: str) -> tuple[dict[str, Any] | None, str]:
    """The most severe finding that is not over, the earlier of two equals, and the one the process was killed for.

    Remarks do not count.
    """
    forced = ""
    still: dict[tuple[str, Any], dict[str, Any]] = {}
    with jsonlines.opened(path) as file:
        for line in jsonlines.lines_of(file):
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
    try:
        entry = from_json(line)
    except ValueError:
        entry = _lenient(line)
    return entry if isinstance(entry, dict) and isinstance(entry.get("kind"), str) else {}


def _lenient(line: bytes) -> object:
    """What the standard library makes of a line: unlike the quick reader it takes half a surrogate pair."""
    with suppress(ValueError, RecursionError):
        return json.loads(line)
    return None


def _said(finding: Mapping[str, Any] | None) -> str:
    if finding is None:
        return ""
    stepless = finding.get("step") is None  # rules then count rows, and a row should not be called a step
    at = finding.get("first_row") if stepless else finding.get("first_step", finding.get("step"))
    where = f" at {'row' if stepless else 'step'} {at}" if isinstance(at, int) else ""
    summary = str(finding.get("summary", ""))
    return f"{finding.get('rule')}{where}: {in_rows(summary) if stepless else summary}"


def _failure(state: str, status: Mapping[str, Any], finding: Mapping[str, Any] | None) -> str:
    """A fingerprint of a failure: the rule and the metric behind it, or the error with its numbers and paths taken out.

    Two runs with one fingerprint failed the same way, whatever the step and the values were.
    """
    error = status.get("error") if state == contract.State.FAILED else None
    known = isinstance(error, str) and bool(error)  # then the rule `crash` says no more than that there is one
    if (
        finding is not None
        and finding.get("severity") == Severity.CRITICAL
        and not (known and finding.get("rule") == "crash")
    ):
        metric = mapping(finding.get("evidence")).get("metric")
        return f"{finding.get('rule')} of {metric}" if isinstance(metric, str) else str(finding.get("rule"))
    if isinstance(error, str):
        return re.sub(r"(?<![A-Za-z_])(?:0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?)", "#", " ".join(error.split()))[:120]
    return ""


# ------------------------------------------------------------------------------------------------ among each other


def _alive(entry: Entry) -> Entry:
    """The entry, crashed if its process is gone: nobody is left to say so in its files, and perhaps nobody watched."""
    if entry.process is not None and process.look(entry.process) is Life.GONE:
        return entry._replace(status=CRASHED)
    return entry


def _told_apart(known: list[Entry]) -> list[Entry]:
    """Entries with an id each: of several that claim one, those in a folder of another name go by that name."""
    keeper: dict[str, Entry] = {}
    for entry in known:
        if entry.name == entry.id or entry.id not in keeper:
            keeper[entry.id] = entry
    if len(keeper) == len(known):
        return known
    copies = (entry._replace(id=entry.name, remark=f"a copy? it says it is {entry.id}") for entry in known)
    return [entry if keeper[entry.id] is entry else copy for entry, copy in zip(known, copies, strict=True)]


def _related(entry: Entry, by_id: Mapping[str, Entry], circles: frozenset[str]) -> Entry:
    """The entry with what its parent adds to it: the gain, or why there is none."""
    if entry.parent is None:
        return entry
    parent = by_id.get(entry.parent)
    if parent is None or entry.id in circles:
        told = f"its parent {entry.parent} is not here" if parent is None else "its parents go in a circle"
        entry = entry._replace(remark="; ".join(filter(None, (entry.remark, told))))
    if parent is None or parent.id == entry.id or entry.metric != parent.metric:
        return entry
    if not _finite(entry.value) or not _finite(parent.value):
        return entry
    return entry._replace(gain=contract.gain(entry.value or 0.0, parent.value or 0.0, entry.direction))


def _circles(by_id: Mapping[str, Entry]) -> frozenset[str]:
    """The ids that are their own ancestors."""
    found, done = set[str](), set[str]()
    for start in by_id:
        line: dict[str, None] = {}
        at = start
        while at in by_id and at not in done and at not in line:
            line[at] = None
            at = by_id[at].parent or ""
        if at in line:
            ids = list(line)
            found.update(ids[ids.index(at) :])
        done.update(line)
    return frozenset(found)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
