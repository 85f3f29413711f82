"""One JSON object in a file, and whether the values in an `experiment.json` are of the kinds they have to be.

Standard library only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from contract import TIERS, Unreadable, decode_object, number_in

MAX_SIZE = 1 << 24
"""Bytes. A record or a result has a few KB; a larger file is not read."""

_CEILINGS = ("wall_minutes", "steps", "tokens")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        Unreadable: it is not valid, or it is no regular file of a decent size.
        OSError: it is not there or cannot be read.
    """
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_SIZE:  # a named pipe would be read for ever
        raise Unreadable(f"{path}: is no regular file of at most {MAX_SIZE:,} bytes")
    return decode_object(path.read_bytes(), str(path))


def faults(record: Mapping[str, Any]) -> list[str]:
    """A sentence for each value in an `experiment.json` that is of the wrong kind; null counts as absent."""
    return [f"{name} = {_short(value)}: must be {kind}" for name, value, kind in _wrong(record)]


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


def _text(value: object) -> bool:
    return isinstance(value, str)


def _object(value: object) -> bool:
    return isinstance(value, Mapping)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return number_in(value) is not None


_Kind = tuple[Callable[[object], bool], str]

_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(("id", "name", "parent", "hypothesis", "rationale", "created_at"), (_text, "a text")),
    **dict.fromkeys(("config", "tiers", "budget", "schedule", "fingerprints"), (_object, "an object")),
    "metric": (_object, "an object with name and direction"),
    "tags": (_texts, "a list of texts"),
    **dict.fromkeys(("total_steps", "total_epochs"), (_whole, "a whole number")),
}

_INSIDE: dict[str, tuple[tuple[str, ...], Callable[[object], bool], str]] = {
    "metric": (("name", "direction"), _text, "a text"),
    "tiers": (TIERS, _number, "a number"),
    "budget": (_CEILINGS, _number, "a number"),
}
"""What is looked at inside an object; keys that nobody here knows may hold anything."""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
