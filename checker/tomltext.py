"""TOML as text: where a key stands, which the standard parser does not say, and how a value is written."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import contract

_MANY_PARTS = re.compile(r"(?:\.[ \t]*[\w\"'-]{1,100}[ \t]*){64}")


class NotToml(ValueError):
    """Text that is no TOML."""

    def __init__(self, line: int, told: str) -> None:
        super().__init__(f"not valid TOML: {told}")
        self.line = line


def document(text: str) -> dict[str, Any]:
    """What `text` holds; no table or list in it stands so deep that walking through it could fail.

    Raises:
        NotToml: with the line and the parser's reason.
    """
    if many := _MANY_PARTS.search(text):  # the parser takes the square of their number
        raise NotToml(text.count("\n", 0, many.start()) + 1, "a key has too many parts")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        told = str(error)[: where.start()] if where else str(error).removesuffix(" (at end of document)")
        raise NotToml(int(where[1]) if where else max(1, len(text.splitlines())), told[:1].lower() + told[1:]) from None
    except RecursionError:
        raise NotToml(1, "nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits, a day that does not exist
        raise NotToml(1, str(error)) from None
    if contract.too_deep(found):
        raise NotToml(1, "nested too deeply")
    return found


_LONGEST = 400
"""Characters of a line that are looked at: nobody's key is longer, and looking takes their square."""

_HEADER = re.compile(r"\s*\[\s*([A-Za-z_\"'][\w.\"' -]*?)\s*\]\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z_\"'][\w.\"' -]*?)\s*=")


def places(text: str) -> dict[tuple[str, ...], int]:
    """The line of every table and key, as far as they are written in the usual way: the parser does not say."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, one in enumerate((whole[:_LONGEST] for whole in text.splitlines()), 1):
        path: tuple[str, ...] = ()
        if header := _HEADER.match(one):
            path = table = _parts(header[1])
        elif key := _KEY.match(one):
            path = (*table, *_parts(key[1]))
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], number)
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def line(known: Mapping[tuple[str, ...], int], where: Sequence[str]) -> int:
    """The line of `where`, or of the nearest table around it."""
    path = tuple(where)
    around = (path[:length] for length in range(len(path), 0, -1))
    return next((known[near] for near in around if near in known), 1)


def written(value: Any) -> str:
    """A value as TOML writes it; for what TOML does not have, as Python does."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, int) and value.bit_length() > 64:
        return hex(value)  # Python does not print a number of thousands of digits
    return repr(value) if isinstance(value, int | float) else str(value)
