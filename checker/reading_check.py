"""What is wrong with `[columns]` and `[patterns]`: every fault, with its place and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from checker.formats.format import NOTHING
from checker.names import ROLES

PLACES = ("step", "epoch", "timestamp", "elapsed", "total_steps", "total_epochs", "phase")
"""What a column may tell beside a metric."""

MEANINGS = (*ROLES, *PLACES, NOTHING)

Fault = tuple[tuple[str, ...], str]


def faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong in either table."""
    for name, meaning in _table(document, "columns"):
        if meaning not in MEANINGS:
            near = difflib.get_close_matches(str(meaning), MEANINGS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it must be one of {', '.join(MEANINGS)}"
            yield ("columns", name), f"columns.{name} = {meaning!r}: a column means nothing of that kind{hint}"
    for name, pattern in _table(document, "patterns"):
        trouble = _trouble(pattern)
        if trouble:
            yield ("patterns", name), f"patterns.{name} = {pattern!r}: {trouble}"


def _table(document: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    table = document.get(name)
    return list(table.items()) if isinstance(table, dict) else []


def _trouble(pattern: Any) -> str | None:
    """Why a pattern cannot be used."""
    if not isinstance(pattern, str):
        return "must be a regular expression, as text"
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        return f"is no regular expression ({error})"
    if not groups.keys() - {*PLACES}:
        return "names no metric; write one as a named group, (?P<train_loss>\\S+)"
    return None
