"""One line of bytes becomes a `Row` or an `Unreadable`: our own format, zero-operators' rows, and flat rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, count, repeat
from typing import Any, Final

from pydantic_core import from_json

from checker.events import Flat, Row, Unreadable
from contract import number_in

MAX_LINE: Final = 1 << 20
"""Bytes. A longer line is not a metrics row (a row of 1,000 metrics has 30 KB) and would cost memory to parse."""

BIG: Final = 1 << 62
"""Counters beyond this are no counters; metrics beyond it are taken as floating-point numbers, infinite if need be."""

_PLACE: Final = {
    **dict.fromkeys(("step", "global_step", "_step", "iteration", "iter"), "step"),
    **dict.fromkeys(("timestamp", "ts", "_timestamp", "time", "created_at"), "at"),
    **dict.fromkeys(("wall_time_seconds", "elapsed", "_runtime"), "elapsed"),
    **dict.fromkeys(("total_steps", "max_steps"), "total_steps"),
    **{name: name for name in ("epoch", "event", "run_id", "phase", "text", "total_epochs", "metrics", "config")},
    **dict.fromkeys(("v", "experiment_id", "experiment_name", "checkpoint_path", "tags"), "other"),
}
"""What the fields that are no metric tell, under every name that is in use."""

_NOT_FLAT: Final = frozenset(_PLACE) - {"step"}


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


def decode_all(lines: Sequence[bytes], index: int, line: int) -> Sequence[Row] | None:
    """The rows in `lines`, one in each; None when one of these holds no row, so that each must be looked at by itself.

    It says what `decode` says. Most rows are flat, and that is found out about all of them at once, in loops that the
    interpreter does not have to go through.
    """
    if max(map(len, lines)) > MAX_LINE:
        return None
    try:
        documents = list(map(from_json, lines))
    except ValueError:
        return None
    if {*map(type, documents)} != {dict}:
        return None
    if _all_flat(documents):
        return _flat_rows(documents, index, line)
    return [row(document, index + place, line + place) for place, document in enumerate(documents)]


def _all_flat(documents: Sequence[dict[str, Any]]) -> bool:
    """Whether each has a step, and metrics that are simply numbers: what was parsed is then what is meant."""
    if not _NOT_FLAT.isdisjoint(set().union(*documents)):
        return False
    if {*map(type, map(dict.get, documents, repeat("step")))} != {int}:
        return False
    kinds = list(map(type, chain.from_iterable(map(dict.values, documents))))
    whole = kinds.count(int)
    if whole + kinds.count(float) < len(kinds):
        return False
    if whole == len(documents):  # only the steps
        return all(-BIG < document["step"] < BIG for document in documents)
    return all(-BIG < value < BIG for document in documents for value in document.values() if type(value) is int)


def _flat_rows(documents: Sequence[dict[str, Any]], index: int, line: int) -> Sequence[Row]:
    """The rows of documents that are all flat. Without their steps, these are what the rows hold."""
    new = tuple.__new__  # what Row._make does, without checking the length each time
    steps = map(dict.pop, documents, repeat("step"))
    return [
        new(Flat, (at, where, values, "step", step, None, None, None, None, None, None, None, None, None, None))
        for at, where, values, step in zip(count(index), count(line), documents, steps, strict=False)
    ]


def row(document: Mapping[str, Any], index: int, line: int) -> Row:
    """The row that a parsed `document` describes."""
    values: dict[str, float | None] = {}
    place: dict[str, Any] = {}
    for key, value in document.items():
        where = _PLACE.get(key)
        if where is None:
            _measured(key, value, values)
        elif where not in place:
            place[where] = value
    get = place.get
    if "metrics" in place and isinstance(place["metrics"], dict):
        for key, value in place["metrics"].items():
            if type(value) is float:
                values[key] = value
            else:
                _measured(key, value, values)
    if "config" in place and isinstance(place["config"], dict):
        place = {**_totals(place["config"]), **place}
        get = place.get
    step, epoch, event = get("step"), get("epoch"), get("event")
    # Only here are these two no metrics: a flat row may count something else under the same names.
    fold, folds = (values.pop("fold", None), values.pop("folds", None)) if event == "fold_end" else (None, None)
    return Row(
        index,
        line,
        values,
        "step" if event is None else str(event),
        step if type(step) is int and -BIG < step < BIG else _whole(step),
        None if epoch is None else _limited(number_in(epoch)),
        seconds(place["at"]) if "at" in place else None,
        number_in(place["elapsed"]) if "elapsed" in place else None,
        _text(get("run_id")),
        _text(get("phase")),
        _whole(get("total_steps")),
        _whole(get("total_epochs")),
        _text(get("text")),
        _whole(fold),
        _whole(folds),
    )


def too_long(size: int, line: int) -> Unreadable:
    return Unreadable(line, f"{size:,} bytes long; a row may have {MAX_LINE:,}")


def _measured(key: str, value: Any, into: dict[str, float | None]) -> None:
    """Takes in a metric as it is where it is simply a number."""
    kind = type(value)
    if kind is float or (kind is int and -BIG < value < BIG):
        into[key] = value
    else:
        _odd(key, value, into)


def _odd(key: str, value: Any, into: dict[str, float | None]) -> None:
    """Takes in a metric that is not simply a number: spelled out, null, or a group of metrics."""
    if isinstance(value, Mapping):
        for inner, item in value.items():
            _odd(f"{key}/{inner}", item, into)
    elif value is None:
        into[key] = None
    else:
        number = number_in(value)
        if number is not None:
            into[key] = number


def _totals(config: Mapping[str, Any]) -> dict[str, Any]:
    """The planned length, where a start row's config names it."""
    names = {"total_steps": ("total_steps", "max_steps"), "total_epochs": ("total_epochs", "epochs", "num_epochs")}
    return {key: config[name] for key, options in names.items() for name in options if name in config}


def _limited(number: float | None) -> float | None:
    return None if number is None or not -BIG < number < BIG else number


def _whole(value: object) -> int | None:
    if value is None:
        return None
    number = number_in(value)
    return None if number is None or not -BIG < number < BIG else int(number)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def seconds(value: object) -> float | None:
    """Seconds since 1970 in a timestamp: a number (seconds or milliseconds) or ISO 8601."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    number = number_in(value)
    if number is None:
        return None
    since = number / 1000 if number > 1e11 else number
    return since if 1e8 < since < 1e10 else None  # beyond the year 2286 it is no time, but digits like 20261122001748


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
