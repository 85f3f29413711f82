"""One line of bytes becomes a `Row` or an `Unreadable`: our own format, zero-operators' rows, and flat rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import from_json

from checker.events import Row, Unreadable
from contract import number_in

MAX_LINE: Final = 1 << 20
"""Bytes. A longer line is not a metrics row (a row of 1,000 metrics has 30 KB) and would cost memory to parse."""

_STRUCTURAL: Final = frozenset({
    "v", "timestamp", "time", "ts", "_timestamp", "created_at", "event", "experiment_id", "experiment_name", "run_id",
    "step", "global_step", "_step", "iteration", "iter", "epoch", "total_epochs", "total_steps", "max_steps", "phase",
    "metrics", "checkpoint_path", "wall_time_seconds", "elapsed", "_runtime", "config", "text", "tags",
})  # fmt: skip
_STEP_KEYS: Final = ("step", "global_step", "_step", "iteration", "iter")
_TIME_KEYS: Final = ("timestamp", "ts", "_timestamp", "time", "created_at")


def decode(data: bytes, index: int, line: int) -> Row | Unreadable:
    """The row in one line of `data`; `index` and `line` are where it stands.

    Bare `NaN` and `Infinity`, numbers spelled as text and null where a number should be are all kept; unknown fields
    never cost the row.
    """
    if len(data) > MAX_LINE:
        return too_long(len(data), line)
    try:
        document = from_json(data)
    except ValueError as error:
        return Unreadable(line, _why(data, error))
    if type(document) is not dict:
        return Unreadable(line, f"expected a JSON object, found {type(document).__name__}")
    return row(document, index, line)


def row(document: Mapping[str, Any], index: int, line: int) -> Row:
    """The row that a parsed `document` describes."""
    get = document.get
    metrics = get("metrics")
    values: dict[str, float | None] = {}
    _collect(document, values, skip=_STRUCTURAL)
    if isinstance(metrics, Mapping):
        _collect(metrics, values, skip=frozenset())
    config = get("config")
    totals = config if isinstance(config, Mapping) else document
    return Row(
        index,
        line,
        values,
        str(get("event") or "step"),
        _whole(next((document[key] for key in _STEP_KEYS if key in document), None)),
        number_in(get("epoch")),
        seconds(next((document[key] for key in _TIME_KEYS if key in document), None)),
        number_in(get("wall_time_seconds", get("_runtime"))),
        _text(get("run_id")),
        _text(get("phase")),
        _whole(get("total_steps", totals.get("total_steps", totals.get("max_steps")))),
        _whole(get("total_epochs", totals.get("total_epochs", totals.get("epochs")))),
        _text(get("text")),
    )


def too_long(size: int, line: int) -> Unreadable:
    return Unreadable(line, f"{size:,} bytes long; a row may have {MAX_LINE:,}")


def _collect(source: Mapping[str, Any], into: dict[str, float | None], *, skip: frozenset[str]) -> None:
    for key, value in source.items():
        if key in skip:
            continue
        kind = type(value)
        if kind is float or kind is int:
            into[key] = value
        elif value is None:
            into[key] = None
        elif kind is str:
            number = number_in(value)
            if number is not None:
                into[key] = number
        elif kind is dict:
            _collect({f"{key}/{inner}": item for inner, item in value.items()}, into, skip=frozenset())


def _whole(value: object) -> int | None:
    number = number_in(value)
    return None if number is None or not -1e18 < number < 1e18 else int(number)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def seconds(value: object) -> float | None:
    """Seconds since 1970 in a timestamp: a number (seconds or milliseconds) or ISO 8601."""
    number = number_in(value)
    if number is not None:
        since = number / 1000 if number > 1e11 else number
        return since if 1e8 < since < 1e11 else None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def _why(data: bytes, error: ValueError) -> str:
    """What is wrong with an unparsable line, in words a person can act on."""
    if b"\0" in data:
        return "binary data"
    try:
        data.decode()
    except UnicodeDecodeError as bad:
        return f"not UTF-8 (byte {bad.start + 1})"
    head = data[:40].decode(errors="replace")
    return f"not valid JSON ({str(error).splitlines()[0]}): {head!r}"
