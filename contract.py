"""The treaty between trainer and checker: file names, records and how files are written. Standard library only.

The two programs never import each other. Everything that passes between them passes through the files named here, and
whoever reads this page can write a third program. `experiments/README.md` says the same field by field.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import hashlib
import itertools
import json
import math
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Self

try:
    import fcntl
except ImportError:  # not a POSIX system: edits go on without the lock and rely on the displaced-file check
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
"""Version of every record below; a reader accepts records without it and ignores fields it does not know."""

EXPERIMENT = "experiment.json"
ENVIRONMENT = "environment.json"
HYPOTHESIS = "hypothesis.md"
METRICS = "metrics.jsonl"
STATUS = "training_status.json"
SPEC = "spec.json"
RESULT = "result.json"
RESULT_PAGE = "result.md"
OUTPUT = "output.log"
EVALUATIONS = "evaluations.jsonl"
STACKS = "stacks.txt"
RANKS = "ranks"
CHECKPOINTS = "checkpoints"
FINDINGS = "findings.jsonl"
PROMOTIONS = "promotions.jsonl"
DIAGNOSIS = "diagnosis.md"
CURVE = "curve.svg"
NEXT = "next.md"
CHECKLIST = "CHECKLIST.md"
EVENTS = "events.jsonl"
"""In the folder that a checker watches: what happened to any run below it, for whoever waits outside."""
WATCHER = ".checker.lock"
"""In the folder that a checker watches: held by it, and saying who it is."""
SWEEP = "TRAINER_SWEEP"
"""The environment variable that says which sweep a run belongs to; whoever makes the `experiment.json` copies it."""


def rank_file(rank: int) -> str:
    """Where process `rank` of a distributed run writes how it is, below the run folder; rank 0 has the status file."""
    return f"{RANKS}/rank-{rank:05d}.json"


def rank_stacks(rank: int) -> str:
    """Where process `rank` writes its stacks when it is asked for them; rank 0 has `stacks.txt`."""
    return f"{RANKS}/rank-{rank:05d}.stacks.txt"


class State(StrEnum):
    """Where a run stands; the last four are final."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"
    ABORTED = "aborted"

    @property
    def final(self) -> bool:
        return self not in (State.PENDING, State.RUNNING)

    def to(self, after: State) -> State:
        """`after`, when a run may go there from here: pending, running, then one of the four final states.

        Raises:
            IllegalTransition: it may not. A resumed run is a new attempt with a new run id, which begins anew.
        """
        if (self is State.PENDING and after is State.RUNNING) or (self is State.RUNNING and after.final):
            return after
        allowed = "only running" if self is State.PENDING else "nothing" if self.final else "only a final state"
        raise IllegalTransition(f"a run that is {self} cannot become {after}: after {self} comes {allowed}")


class IllegalTransition(ValueError):
    """A change of state that no run makes; the message names both states."""


class Event(StrEnum):
    """What a row of `metrics.jsonl` tells."""

    TRAINING_START = "training_start"
    STEP = "step"
    EPOCH_END = "epoch_end"
    FOLD_END = "fold_end"
    EVALUATION = "evaluation"
    CHECKPOINT_SAVED = "checkpoint_saved"
    PHASE = "phase"
    REGIME_CHANGE = "regime_change"
    NOTE = "note"
    TRAINING_END = "training_end"


class Phase(StrEnum):
    """What a trainer is doing; silence means something else in each of them."""

    START = "start"
    COMPILE = "compile"
    FIT = "fit"
    TRAIN = "train"
    EVALUATE = "evaluate"
    CHECKPOINT = "checkpoint"


class Exit(IntEnum):
    """Exit codes of a trainer; anything else, or death by a signal, is a crash."""

    FINISHED = 0
    FAILED = 1
    STOPPED = 3


# ------------------------------------------------------------------------------------------------ values and text


def now() -> str:
    """The wall clock as ISO 8601 in UTC with microseconds: for people and for comparing files, never for intervals."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def number_out(value: float) -> float | str:
    """A number as legal JSON holds it: non-finite ones are spelled out, as in protobuf's JSON mapping."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


_SPELLED = {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}


def number_in(value: object) -> float | None:
    """A number as some trainer wrote it, or None when it is none: bare and spelled-out non-finite numbers count."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:  # an integer beyond 1.8e308
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str) and len(value) <= 10:
        return _SPELLED.get(value.strip().lower().removeprefix("+"))
    return None


def _finite(value: Any) -> Any:
    """`value` with every non-finite number inside it spelled out."""
    if isinstance(value, float):
        return number_out(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def encode(value: object, *, indent: int | None = None) -> bytes:
    """`value` as legal UTF-8 JSON; what JSON cannot hold is written as text rather than losing the record."""
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        text = json.dumps(value, allow_nan=False, default=str, separators=separators, indent=indent)
    except ValueError:  # a non-finite number somewhere: rare, so only then is the whole value walked
        text = json.dumps(_finite(value), allow_nan=False, default=str, separators=separators, indent=indent)
    return text.encode("utf-8", "backslashreplace")


class Unreadable(ValueError):
    """A file that should hold one JSON object holds something else; the message names the file and what is wrong."""


DEEPEST = 200
"""Levels of a document. Real ones have five; what walks through one by recursion must never run out of stack."""


def decode_object(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        Unreadable: `data` is not UTF-8, not JSON, not an object or nested too deeply; `where` says which file.
    """
    try:
        # The codec for this mark is loaded at its first use, which fails for ever where no file can be opened then.
        value = json.loads(data.removeprefix(b"\xef\xbb\xbf").decode(), parse_int=_whole)
    except RecursionError:
        raise Unreadable(f"{where}: not valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise Unreadable(f"{where}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise Unreadable(f"{where}: expected one JSON object, found {type(value).__name__}")
    if data.count(b"{") + data.count(b"[") > DEEPEST and too_deep(value):
        raise Unreadable(f"{where}: not valid JSON (nested too deeply)")
    return value


MOST_DIGITS = 300
"""Of a whole number: what has more can be no float, and counts as infinite, as `1e999` does."""


def _whole(digits: str) -> float:
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def too_deep(value: object) -> bool:
    """Whether something stands more than `DEEPEST` levels down in a document."""
    level = [value]
    for _ in range(DEEPEST):
        inside = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = list(itertools.chain.from_iterable(inside))
        if not level:
            return False
    return True


# ------------------------------------------------------------------------------------------------------- reading

RECORD_SIZE = 1 << 24
"""Bytes of a record (a status, an experiment, a result). It has a few KB; a larger file is not read."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)

_READING = os.O_RDONLY | _NO_LINK | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY"))


def open_plain(path: str | Path, dir_fd: int | None = None) -> int:
    """A file opened for reading, without trust: it is what lies in its folder, and reading it never waits.

    A symbolic link is not followed, for a run folder may come from anywhere and point anywhere.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is a link, a folder, a pipe or a device.
        OSError: it cannot be opened.
    """
    return _opened(path, dir_fd)[0]


def _opened(path: str | Path, dir_fd: int | None) -> tuple[int, os.stat_result]:
    try:
        fd = os.open(path, _READING, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise Unreadable(f"{path}: is a symbolic link, which is not followed here") from None
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, or a device without a driver
            raise Unreadable(f"{path}: is no regular file; move it away") from None
        raise
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise Unreadable(f"{path}: is no regular file; move it away")
    return fd, info


def read_plain(path: str | Path, limit: int = RECORD_SIZE, dir_fd: int | None = None) -> tuple[bytes, os.stat_result]:
    """What a file of at most `limit` bytes holds, and what the system knows about it; opened as by `open_plain`.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is no plain file, or a larger one.
        OSError: it cannot be read.
    """
    fd, info = _opened(path, dir_fd)
    try:
        data = os.read(fd, info.st_size + 1) if info.st_size <= limit else b""
        while data and info.st_size != len(data) <= limit:  # it is growing, or comes in pieces
            more = os.read(fd, limit + 1 - len(data))
            if not more:
                break
            data += more
    finally:
        os.close(fd)
    if info.st_size > limit or len(data) > limit:
        size = max(info.st_size, len(data))
        raise Unreadable(f"{path}: has {size:,} bytes; at most {limit:,} are read")
    return data, info


# ------------------------------------------------------------------------------------------------------- records


def _known(cls: type, document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `document` that record `cls` has fields for; newer writers may add more."""
    names = {item.name for item in dataclasses.fields(cls)}
    return {key: value for key, value in document.items() if key in names}


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A request to stop, as it stands under `kill` in the status file."""

    id: str
    reason: str
    rule: str | None = None
    requested_by: str = "person"
    requested_at: str | None = None
    run_id: str | None = None
    grace_seconds: float = 30.0
    save_checkpoint: bool = True

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """The request in `value`: a record, `true`, or a reason as plain text; None when nothing is asked."""
        if not value:
            return None
        if isinstance(value, Mapping):
            known = {key: item for key, item in _known(cls, value).items() if item is not None}
            known.setdefault("reason", "no reason given")
            known.setdefault("id", _short_hash(repr(sorted(value.items(), key=str))))
            with suppress(TypeError, ValueError):
                try:
                    known["grace_seconds"] = float(known.get("grace_seconds", cls.grace_seconds))
                except OverflowError:  # a whole number beyond all floating-point ones
                    known["grace_seconds"] = cls.grace_seconds
            return cls(**{**known, "id": str(known["id"]), "reason": str(known["reason"])})
        reason = value if isinstance(value, str) else f"kill set by hand in {STATUS}"
        return cls(id=f"hand-{_short_hash(reason)}", reason=reason)


@dataclass(frozen=True, kw_only=True)
class Ack:
    """The trainer's answer to a kill request: it was seen, at this step."""

    id: str
    at: str
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Process:
    """Enough to know a process again: a pid alone may have been given to someone else since."""

    pid: int
    host: str
    boot_id: str | None = None
    started: int | None = None


@dataclass(frozen=True, kw_only=True)
class Rank:
    """`ranks/rank-00001.json`: one process of a distributed run, other than rank 0, as it was about a second ago."""

    rank: int
    world_size: int
    launch: str
    """The launcher's name for this launch, the same in all its processes."""
    process: Process
    started_at: str
    updated_at: str
    """The heartbeat: renewed by a thread of its own, also while the loop hangs."""
    progress_at: str
    state: str = State.RUNNING
    step: int | None = None
    phase: str = Phase.START
    stack_signal: int | None = None
    error: str | None = None
    v: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of `metrics.jsonl`. A field that was not measured is left out, not written as null."""

    event: str
    timestamp: str
    experiment_id: str | None = None
    run_id: str | None = None
    step: int | None = None
    epoch: int | None = None
    total_epochs: int | None = None
    fold: int | None = None
    folds: int | None = None
    phase: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float | None = None
    checkpoint_path: str | None = None
    wall_time_seconds: float | None = None
    gpu_memory_mb: float | None = None
    config: Mapping[str, Any] | None = None
    text: str | None = None
    v: int = FORMAT

    def document(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if value is not None and value != {}}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """`experiment.json`: what is being tried and why, written once by whoever creates the experiment."""

    id: str
    created_at: str
    name: str = ""
    parent: str | None = None
    hypothesis: str = ""
    rationale: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    metric: Mapping[str, str] = field(default_factory=dict)
    """`name` and `direction` (`min` or `max`) of the primary metric."""
    tiers: Mapping[str, float] = field(default_factory=dict)
    """Thresholds for the primary metric, by the names in `TIERS`."""
    budget: Mapping[str, float] = field(default_factory=dict)
    """`wall_minutes`, `steps`, `tokens`: ceilings that the checker enforces."""
    tags: Sequence[str] = ()
    sweep: str = ""
    """The sweep that it belongs to; runs of one sweep lie side by side in one folder."""
    schedule: Mapping[str, Any] = field(default_factory=dict)
    """The declared learning rate: `kind`, `peak_lr`, `warmup_steps`, `decay_steps`, `final_lr`."""
    total_steps: int | None = None
    total_epochs: int | None = None
    fingerprints: Mapping[str, Any] = field(default_factory=dict)
    v: int = FORMAT

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """The record in `document`; missing or null fields take their defaults, unknown ones are ignored."""
        known = {key: value for key, value in _known(cls, document).items() if value is not None}
        return cls(**{"id": "", "created_at": "", **known})


# ------------------------------------------------------------------------------------------ what a result is worth

TIERS = ("must_pass", "should_pass", "could_pass")
"""From the floor to the stretch: who reaches one has reached those before it."""

MISSED = "fail"
"""The tier of a result that misses the floor."""


def gain(value: float, baseline: float, direction: str) -> float:
    """How much better `value` is than `baseline`: positive is better, whichever way the metric improves."""
    return value - baseline if direction == "max" else baseline - value


def tier(
    tiers: Mapping[str, Any], value: float | None, direction: str, *, name: str = "metric"
) -> tuple[str | None, list[str]]:
    """The highest tier that `value` reaches with all below it, and a sentence about every tier that it does not.

    Returns:
        One of `TIERS`, `MISSED`, or None where no tier is declared; and the shortfalls.
    """
    asked = [(known, limit) for known in TIERS if (limit := number_in(tiers.get(known))) is not None]
    reached: str | None = MISSED if asked else None
    shortfalls: list[str] = []
    for known, limit in asked:
        if value is not None and gain(value, limit, direction) >= 0:
            reached = known if not shortfalls else reached
        else:
            found = "never measured" if value is None else f"{value:.6g}"
            shortfalls.append(f"{known}: {name} is {found}, asked was {limit:.6g}")
    return reached, shortfalls


# ------------------------------------------------------------------------------ is an experiment.json in order?

BUDGETS = ("wall_minutes", "steps", "tokens")
"""What a budget may limit."""


def experiment_faults(record: Mapping[str, Any]) -> list[str]:
    """A sentence for each value in an `experiment.json` that is of the wrong kind; null counts as absent."""
    return [f"{name} = {_shown(value)}: must be {kind}" for name, value, kind in _wrong(record)]


def _wrong(record: Mapping[str, Any]) -> Iterator[tuple[str, object, str]]:
    for name, (fits, kind) in _KINDS.items():
        value = record.get(name)
        if value is not None and not fits(value):
            yield name, value, kind
    for table, (keys, fits, kind) in _INSIDE.items():
        inside = record.get(table)
        for key in keys:
            value = inside.get(key) if isinstance(inside, Mapping) else None
            if value is not None and not fits(value):
                yield f"{table}.{key}", value, kind


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _are_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return number_in(value) is not None


_Kind = tuple[Callable[[object], bool], str]

_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(("id", "name", "parent", "hypothesis", "rationale", "created_at", "sweep"), (_is_text, "a text")),
    **dict.fromkeys(("config", "tiers", "budget", "schedule", "fingerprints"), (_is_object, "an object")),
    "metric": (_is_object, "an object with name and direction"),
    "tags": (_are_texts, "a list of texts"),
    **dict.fromkeys(("total_steps", "total_epochs"), (_is_whole, "a whole number")),
}

_INSIDE: dict[str, tuple[tuple[str, ...], Callable[[object], bool], str]] = {
    "metric": (("name", "direction"), _is_text, "a text"),
    "tiers": (TIERS, _is_number, "a number"),
    "budget": (BUDGETS, _is_number, "a number"),
}
"""What is looked at inside an object; keys that nobody here knows may hold anything."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


# ------------------------------------------------------------------------------------------- what is left of a sweep


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What some runs have in common: a setting, by its dotted key, that is one value, or a number on one side of it."""

    key: str
    how: str
    """`=`, `>=` or `<=`."""
    value: Any

    @classmethod
    def parse(cls, document: object) -> Self:
        """The setting in `document`; one that cannot be understood is met by no configuration."""
        known = document if isinstance(document, Mapping) else {}
        return cls(key=str(known.get("key")), how=str(known.get("how")), value=known.get("value"))

    def met(self, config: Mapping[str, Any]) -> bool:
        """Whether a configuration, nested or with dotted keys, has the setting."""
        found, here = _setting_in(config, self.key)
        if not here:
            return False
        if self.how == "=":
            return same_setting(found, self.value)
        if not (is_setting_number(found) and is_setting_number(self.value)):
            return False
        return bool((self.how == ">=" and found >= self.value) or (self.how == "<=" and found <= self.value))


def _setting_in(config: Mapping[str, Any], key: str) -> tuple[Any, bool]:
    """What stands under a dotted key, and whether there is such a key."""
    if key in config:
        return config[key], True
    at: Any = config
    for part in key.split("."):
        if not isinstance(at, Mapping) or part not in at:
            return None, False
        at = at[part]
    return at, True


def is_setting_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same_setting(one: Any, other: Any) -> bool:
    """Whether two settings are one: 1 and 1.0 are, true and 1 are not, and a list is one however it is held."""
    if is_setting_number(one) and is_setting_number(other):
        return math.isclose(one, other, rel_tol=1e-9)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_setting, one, other))
    return type(one) is type(other) and bool(one == other)


@dataclass(frozen=True, kw_only=True)
class SweepStop:
    """`stop-SWEEP.json` beside the runs of a sweep: while it lies there, nothing that it concerns is begun any more."""

    id: str
    sweep: str
    reason: str
    rule: str | None = None
    requested_by: str = "person"
    requested_at: str | None = None
    only: Sequence[Setting] = ()
    """It concerns the runs that have all of these; without any it concerns every run of the sweep."""
    v: int = FORMAT

    def concerns(self, config: Mapping[str, Any]) -> bool:
        return all(setting.met(config) for setting in self.only)

    @classmethod
    def parse(cls, document: Mapping[str, Any], sweep: str) -> Self:
        """The note in `document`; one made by hand may hold as little as a `reason`, or nothing."""
        texts = ("id", "reason", "rule", "requested_by", "requested_at")
        known = {key: document[key] for key in texts if isinstance(document.get(key), str)}
        only = document.get("only")
        settings = tuple(map(Setting.parse, only if isinstance(only, list) else [only])) if only else ()
        return cls(**{"id": "hand", "reason": "no reason given", **known}, sweep=sweep, only=settings)


def sweep_stop_file(folder: Path, sweep: str) -> Path | None:
    """Where the note lies that stops a sweep whose runs lie in `folder`; None when its id is no name for a file."""
    return folder / f"stop-{sweep}.json" if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", sweep) else None


def sweep_stop(folder: Path, sweep: str) -> SweepStop | None:
    """The note that stops a sweep, or None. An empty file stops it as a whole, and so does one that cannot be read."""
    path = sweep_stop_file(folder, sweep)
    try:
        data = read_plain(path)[0] if path else None
    except FileNotFoundError:
        return None
    except (OSError, Unreadable) as error:
        return SweepStop(id="hand", sweep=sweep, reason=str(error))
    if data is None:
        return None
    try:
        return SweepStop.parse(decode_object(data, str(path)) if data.strip() else {}, sweep)
    except Unreadable as error:
        return SweepStop(id="hand", sweep=sweep, reason=str(error))


# ------------------------------------------------------------------------------------------------ a person's notes


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """`hypothesis.md`: what a person expects and why, in whatever form."""

    claim: str = ""
    rationale: str = ""
    parent: str | None = None
    exp_id: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The note in `text`, with front matter or plain.

        The claim is the first paragraph, or the first bullet where there is none before it, outside every section but
        `# Hypothesis`; what stands below a heading `Rationale` is the rationale. A byte order mark, CRLF and `*`, `+`,
        `-` or numbered bullets make no difference.
        """
        head, body = front_matter(text)
        sections: dict[str, list[str]] = {}
        current = sections.setdefault("", [])
        for line in body:
            heading = re.match(r"#{1,6}[ \t]+(?=\S)", line)
            if heading:
                title = line[heading.end() :].rstrip().rstrip("#").strip()
                current = sections.setdefault(title.lower().rstrip(":"), [])
            else:
                current.append(line)
        told = [name for name in sections if name.startswith("hypothesis")] or [""]
        claim = next((text for name in (*told, "", *sections) if (text := _paragraph(sections[name]))), "")
        why = next((text for name in sections if name.startswith("rationale") and (text := _all(sections[name]))), "")
        parent = head.get("parent_id") or head.get("parent")
        return cls(
            claim=claim,
            rationale=why or head.get("rationale", ""),
            parent=parent if parent not in ("null", "none", "~", "") else None,
            exp_id=head.get("exp_id") or head.get("id"),
        )


_BULLET = re.compile(r"[ \t]*(?:[-*+]|\d+[.)])[ \t]+")


def front_matter(text: str) -> tuple[dict[str, str], list[str]]:
    """The `key: value` lines between two lines of `---` at the top of a note, and the lines below them.

    Quotes around a value are taken off; a line that is no `key: value` is passed over. Without a closing line there is
    no front matter, and everything is text.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    start = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if not lines or lines[start].rstrip() != "---":
        return {}, lines
    end = next((number for number in range(start + 1, len(lines)) if lines[number].rstrip() in ("---", "...")), None)
    if end is None:
        return {}, lines
    found: dict[str, str] = {}
    for line in lines[start + 1 : end]:
        key, colon, value = line.partition(":")
        if colon:
            found[key.strip().lower()] = value.strip().strip("\"'")
    return found, lines[end + 1 :]


def _paragraph(lines: Sequence[str]) -> str:
    """The first paragraph of some lines, or the first bullet where that comes first, as one line."""
    found: list[str] = []
    for line in lines:
        bullet = _BULLET.match(line)
        if found and (not line.strip() or bullet):
            break
        if line.strip():
            found.append(line[bullet.end() :] if bullet else line)
    return " ".join(" ".join(found).split())


def _all(lines: Sequence[str]) -> str:
    return " ".join(" ".join(_BULLET.sub("", line, count=1) for line in lines).split())


# ------------------------------------------------------------------------------------------------------- writing


NEW_FILE = 0o664
"""The mode of a new file, less what the user's umask takes away: never writable for everybody, even with umask 0."""


class Appender:
    """A JSON-lines file open for appending: one line is one write.

    A crash can leave half a line behind. Whatever is appended next would be glued to it and both would be lost, so the
    missing newline is repaired first; the fragment then stays on a line of its own and a reader can report it.

    Args:
        path: the file; it is made when there is none.
        follow: whether it may be a symbolic link. A trainer's own log may lie on another disk; what a checker appends
            to in a folder that it does not trust must lie in that folder.

    Raises:
        OSError: it cannot be opened; without `follow` also: it is a link, or no regular file.
    """

    def __init__(self, path: Path, *, follow: bool = True) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        self._fd = os.open(path, flags if follow else flags | _NO_LINK, NEW_FILE)
        if not follow and not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self.close()
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        self._torn = self._ends_torn()

    def _ends_torn(self) -> bool:
        size = os.fstat(self._fd).st_size
        return size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    def append(self, document: Mapping[str, Any], *, sync: bool = False) -> None:
        """Writes one line; `sync` also waits until it would survive a power cut (a crash it survives anyway).

        Raises:
            OSError: the disk is full or gone; the file may then end in a torn line, which the next append repairs.
        """
        self.append_encoded(encode(document), sync=sync)

    def append_encoded(self, text: bytes, *, sync: bool = False) -> None:
        """As `append`, for one JSON object that is text already: a trainer's step row is formatted by hand, for speed.

        Raises:
            OSError: as `append`.
        """
        line = text + b"\n"
        if self._torn:
            line = b"\n" + line
        self._torn = True
        written = os.write(self._fd, line)
        if written != len(line):
            raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes were written", str(self.path))
        self._torn = False
        if sync:
            os.fsync(self._fd)

    def mend(self) -> None:
        """Ends a torn last line now and not only with the next append: it may be whole but for its newline.

        Raises:
            OSError: as `append`.
        """
        if self._torn:
            os.write(self._fd, b"\n")
            self._torn = False

    def info(self) -> os.stat_result:
        """What is known about the open file, which may be another one than there is at `path` by now."""
        return os.fstat(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def append_line(path: Path, document: Mapping[str, Any], *, sync: bool = False, follow: bool = True) -> None:
    """Appends one line to a file that is not kept open; `follow` as for `Appender`."""
    appender = Appender(path, follow=follow)
    try:
        appender.append(document, sync=sync)
    finally:
        appender.close()


_serial = itertools.count()


def _write_beside(path: Path, data: bytes, *, sync: bool = True) -> Path:
    """`data` in a new file beside `path`, under a name that no other process or thread uses; `sync`: on disk."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{next(_serial)}.tmp")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), NEW_FILE)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if sync:
            os.fsync(fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    finally:
        os.close(fd)
    return beside


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems refuse to open or sync a folder; the rename itself has happened
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def replace(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Replaces a whole file atomically: a reader sees the old content or the new, whatever happens.

    Without `sync` a power cut may cost the file: for what is written again in a second and worth nothing afterwards.
    """
    beside = _write_beside(path, data, sync=sync)
    try:
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    if sync:
        _sync_folder(path.parent)


# ------------------------------------------------------------------------------------------------- the status file

_HALF_SAVED_SECONDS = 5.0
"""An unparsable status file younger than this is somebody's save in progress; an older one is set aside, not lost."""

_LOCK_SECONDS = 1.0
"""Longest wait for the lock. Its holder may be suspended, and a kill must get through all the same."""

Stamp = tuple[int, int, int, int]


def stamp(info: os.stat_result) -> Stamp:
    """What changes whenever a file is replaced or rewritten."""
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _content_stamp(info: os.stat_result) -> Stamp:
    """As `stamp`, but blind to a rename (which touches the change time only)."""
    return info.st_ino, info.st_size, info.st_mtime_ns, 0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock file beside `path`; the kernel drops it when its holder dies."""
    if fcntl is None:
        yield
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | _NO_LINK
    fd = os.open(path.with_name(f".{path.name}.lock"), flags, NEW_FILE)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def exchange(one: Path, other: Path) -> bool:
    """Swaps two files in one instant (Linux `renameat2`); False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    at_cwd, exchange = -100, 2
    return bool(rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0)


STATUS_MAX = 1 << 24
"""Bytes. A status file has a few KB; what is larger is none."""


def _regular(path: Path) -> tuple[bytes, os.stat_result]:
    """What a file holds that anybody may have put there: a pipe would be waited for for ever, a device read for ever.

    Raises:
        Unreadable: it is no regular file, or none of the size of a status file.
        OSError: it cannot be opened or read.
    """
    waits_not = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        fd = os.open(path, os.O_RDONLY | waits_not)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, or a device without a driver
            raise Unreadable(f"{path}: not a regular file of at most {STATUS_MAX:,} bytes") from None
        raise
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size > STATUS_MAX:
            raise Unreadable(f"{path}: not a regular file of at most {STATUS_MAX:,} bytes")
        return file.read(STATUS_MAX), info


class StatusBusy(OSError):
    """The status file is being saved by someone else this very moment; try again a little later."""


class StatusFile:
    """The status file of one run folder, written by several hands.

    The trainer owns every key but `kill`. Programs take the lock; people's editors do not, so every edit looks at the
    file that it displaced: when that is not the one it had read, somebody saved in between, and the edit is made again
    on top of theirs. An editor that was still writing into the displaced file is noticed at the next edit.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATUS
        self._displaced: tuple[int, Stamp] | None = None

    def read(self) -> dict[str, Any] | None:
        """The document, or None when there is no file.

        Raises:
            Unreadable: the file does not hold one JSON object (perhaps it is being saved), or is no plain file.
        """
        try:
            return decode_object(read_plain(self.path)[0], str(self.path))
        except FileNotFoundError:
            return None

    def edit(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Replaces the document by `change(document)`; `change` may be called again when someone saved meanwhile.

        Returns:
            The document that is now on disk.

        Raises:
            StatusBusy: the file is half-saved just now and was left alone.
            OSError: the folder cannot be written.
        """
        with _locked(self.path):
            before, expected = self._open_for_edit()
            late = self._late_save()
            if late is not None and late.get("kill"):
                before = {**before, "kill": late["kill"]}
            while True:
                after = change(dict(before))
                beside = _write_beside(self.path, encode(after, indent=1))
                placed = _content_stamp(os.stat(beside))
                try:
                    displaced = self._put(beside, expected)
                    if displaced is None:
                        break
                    before, expected = displaced, placed
                finally:
                    with suppress(FileNotFoundError):
                        os.unlink(beside)
            _sync_folder(self.path.parent)
            return after

    def close(self) -> None:
        if self._displaced is not None:
            os.close(self._displaced[0])
            self._displaced = None

    def _open_for_edit(self) -> tuple[dict[str, Any], Stamp | None]:
        """The document to edit and the stamp of the file it came from (None: there is no file)."""
        try:
            data, info = read_plain(self.path)
        except FileNotFoundError:
            return {}, None
        except Unreadable as error:  # not somebody's half-saved text: a link, a pipe, a huge file
            raise OSError(errno.EINVAL, str(error).removeprefix(f"{self.path}: "), str(self.path)) from None
        try:
            return decode_object(data, str(self.path)), _content_stamp(info)
        except Unreadable as error:
            if abs(time.time() - info.st_mtime) < _HALF_SAVED_SECONDS:  # a clock set back would make it young for long
                raise StatusBusy(errno.EBUSY, str(error)) from None
            aside = self.path.with_name(f"{STATUS}.unreadable-{int(info.st_mtime)}")
            os.replace(self.path, aside)
            return {}, None

    def _put(self, beside: Path, expected: Stamp | None) -> dict[str, Any] | None:
        """Puts `beside` in place. Returns None when it displaced what was expected, else the document found there."""
        if expected is None:
            try:
                os.link(beside, self.path)  # unlike a rename, fails when somebody created the file meanwhile
                return None
            except FileExistsError:
                return self._open_for_edit()[0]
            except OSError:  # a file system without hard links
                os.replace(beside, self.path)
                return None
        if not exchange(beside, self.path):
            os.replace(beside, self.path)
            return None
        found = _content_stamp(os.stat(beside))
        self._remember(beside, found)
        return None if found == expected else self._settled(beside)

    def _remember(self, displaced: Path, seen: Stamp) -> None:
        self.close()
        with suppress(Unreadable, OSError):  # nobody writes into what is no file; or no more files can be opened
            self._displaced = (open_plain(displaced), seen)

    def _late_save(self) -> dict[str, Any] | None:
        """What an editor wrote into the displaced file after it had been displaced."""
        if self._displaced is None:
            return None
        fd, seen = self._displaced
        info = os.fstat(fd)
        if _content_stamp(info) == seen:
            return None
        self._displaced = (fd, _content_stamp(info))
        with suppress(Unreadable):
            return decode_object(os.pread(fd, min(info.st_size, RECORD_SIZE), 0), str(self.path))
        return None

    @staticmethod
    def _settled(path: Path) -> dict[str, Any]:
        """The document in a file that somebody may still be writing."""
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                return decode_object(read_plain(path)[0], str(path))
            except Unreadable:
                if time.monotonic() > deadline:
                    return {}
                time.sleep(0.01)


def run_state(document: Mapping[str, Any]) -> State:
    """The state that a status document claims; one without `state` (zero-operators' callback) says `is_training`."""
    with suppress(KeyError, ValueError):
        return State(document["state"])
    return State.COMPLETED if document.get("is_training") is False else State.RUNNING


def pending_kill(document: Mapping[str, Any]) -> Kill | None:
    """The request that the run described by `document` has to obey, or None.

    A request for another run id is stale, an acknowledged one is served, and a run that is over ignores them all.
    """
    kill = Kill.parse(document.get("kill"))
    if kill is None or run_state(document).final:
        return None
    if kill.run_id not in (None, document.get("run_id")):
        return None
    ack = document.get("ack")
    if isinstance(ack, Mapping) and ack.get("id") == kill.id:
        return None
    return kill


def request_kill(status: StatusFile, kill: Kill) -> bool:
    """Asks a run to stop. Asking twice is the same as once; a request that stands is not replaced.

    Returns:
        True when a request for this run now stands in the file (this one or an earlier one), False when the run is over
        or is not the one that `kill` is for.

    Raises:
        FileNotFoundError: there is no status file, so nobody would look at it.
        StatusBusy: the file is half-saved just now.
    """
    if not status.path.exists():
        raise FileNotFoundError(errno.ENOENT, "no status file, so no trainer looks for a request", str(status.path))
    standing = False

    def ask(document: dict[str, Any]) -> dict[str, Any]:
        nonlocal standing
        over = run_state(document).final
        other = kill.run_id is not None and document.get("run_id") not in (None, kill.run_id)
        earlier = pending_kill(document)
        ack = document.get("ack")
        served = isinstance(ack, Mapping) and ack.get("id") == kill.id
        standing = not over and not other
        if over or other or earlier is not None or served:
            return document
        return {**document, "kill": dataclasses.asdict(kill)}

    status.edit(ask)
    return standing


# --------------------------------------------------------------------------------------------- processes and hashes


def process_started(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None when it is gone or the system does not tell.

    A process that has ended and only waits for its parent to take note is gone.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


_BOOT: list[str] = []


def boot_id() -> str | None:
    """A name for this boot of this machine; None where the system has none.

    It is read once: a process that has run out of file descriptors still knows which boot it lives in.
    """
    if not _BOOT:
        with suppress(OSError):
            _BOOT.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    return _BOOT[0] if _BOOT else None


def this_process() -> Process:
    pid = os.getpid()
    return Process(pid=pid, host=socket.gethostname(), boot_id=boot_id(), started=process_started(pid))


SILENT = 30.0
"""Seconds without a beat after which a checker no longer looks; it beats every five, from the loop that works."""


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Who watches a folder, as `.checker.lock` says it: the checker holds that file and rewrites it as it goes on.

    A record without `beat_at` (`checker once`, an older checker) says who it is and not whether it still looks.
    """

    pid: int
    host: str
    started: str | None = None
    ended: str | None = None
    """When it left, if it could say so."""
    beat_at: str | None = None
    mode: str | None = None
    runs: int | None = None
    poll_seconds: float | None = None
    round_seconds: float | None = None
    """How long the last look at everything took."""
    age: float | None = None
    """Seconds since the last sign of life, as far as clocks can tell; not in the file."""

    @property
    def looking(self) -> bool:
        """Whether it has looked lately; one that is suspended or hangs holds the file and does not."""
        return self.ended is None and (self.age is None or self.age <= SILENT)

    def __str__(self) -> str:
        told = f"process {self.pid} on {self.host}{f', since {self.started}' if self.started else ''}"
        if self.looking or self.age is None:
            return told
        return f"{told}, but it has not looked for {lasted(self.age)}"

    @classmethod
    def parse(cls, document: Mapping[str, Any], written: float, now: float) -> Self | None:
        """The record in `document`, in a file last written at `written`; None when it names nobody."""
        kinds = {"pid": int, "host": str, "runs": int, "poll_seconds": int | float, "round_seconds": int | float}
        texts = dict.fromkeys(("started", "ended", "beat_at", "mode"), str)
        wanted = {**kinds, **texts}
        known = {name: document[name] for name, kind in wanted.items() if isinstance(document.get(name), kind)}
        if not {"pid", "host"} <= known.keys():
            return None
        found = cls(**known)
        signs = [written] if found.host != socket.gethostname() else []
        with suppress(KeyError, ValueError, OverflowError):
            # Clocks differ between machines: the file's own time, which a server sets, may be nearer to ours.
            signs = [datetime.fromisoformat(known["beat_at"]).timestamp(), written]
        return dataclasses.replace(found, age=min((abs(now - sign) for sign in signs), default=None))


def lasted(seconds: float) -> str:
    """A duration in words, as exact as it matters."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def watcher(root: Path) -> Watcher | None:
    """Which checker watches a folder; None where none does, or nobody can know. It may not be `looking`.

    On this machine the lock decides, on another one the last beat.
    """
    found, held = _watcher(root)
    return found if held else None


def last_watcher(root: Path) -> Watcher | None:
    """Which checker watches a folder or was the last to do so; None when none has left a trace."""
    return _watcher(root)[0]


def _watcher(root: Path) -> tuple[Watcher | None, bool]:
    """What the file says, and whether the one that it names still holds it."""
    try:
        fd = open_plain(root / WATCHER)
    except (OSError, Unreadable):
        return None, False
    try:
        found = _read_watcher(fd)
        if found is None or found.ended is not None:
            return found, False
        fresh = found.age is not None and found.age <= SILENT
        if found.host != socket.gethostname():
            return found, fresh
        # Only a lock whose holder seems to live is tried, for trying one that is free would be in a checker's way. One
        # in another container has our host's name perhaps, and no process that we could see.
        return found, (process_started(found.pid) is not None or fresh) and _held(fd)
    except OSError:
        return None, False
    finally:
        os.close(fd)


def _read_watcher(fd: int) -> Watcher | None:
    for _ in range(2):  # it is written in place: a reader may come in the midst of that once, not twice
        try:
            document = decode_object(os.pread(fd, 4096, 0), WATCHER)
        except Unreadable:
            continue
        return Watcher.parse(document, os.fstat(fd).st_mtime, time.time())
    return None


def _held(fd: int) -> bool:
    """Whether somebody holds the lock on an open file."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]


def config_hash(config: Mapping[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of `config` as sorted JSON, nested keys included."""
    text = json.dumps(_finite(config), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
