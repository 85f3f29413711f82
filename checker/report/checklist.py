"""`CHECKLIST.md`: one line per experiment and what is planned next."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import contract
from checker.report import mask, planned, render
from checker.report.catalog import Entry, entries

__all__ = ["Entry", "entries", "write"]

_CELL = 70
_NONE = "—"
_PLANNED_FROM = 3
"""The ideas of this many experiments are listed, the newest that have any; the others are counted."""


@dataclass(frozen=True)
class Row:
    """An entry as the template shows it."""

    exp: str
    parent: str
    status: str
    hypothesis: str
    metric: str
    delta: str
    tier: str
    finding: str


@dataclass(frozen=True)
class View:
    counts: str
    legend: str
    rows: list[Row]
    planned: list[str]


def write(root: Path) -> None:
    """Brings `CHECKLIST.md` in `root` up to date; it is not touched while nothing has changed.

    Raises:
        OSError: `root` cannot be read or written.
    """
    found = entries(root)
    render.put(root / contract.CHECKLIST, render.page("checklist.md.j2", _view(found)).encode())


def _view(found: Sequence[Entry]) -> View:
    counts = Counter(entry.status for entry in found)
    each = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    total = f"{len(found)} experiment{'' if len(found) == 1 else 's'}"
    legend = "Δ vs parent: + is better, - is worse, whichever way the metric improves."
    return View(
        counts=f"{total}: {each}." if found else "No experiments yet.",
        legend=f"Written by the checker; edits are overwritten. {legend}",
        rows=[_row(entry) for entry in found],
        planned=list(_planned(found)),
    )


@lru_cache(maxsize=1 << 16)
def _row(entry: Entry) -> Row:
    return Row(
        exp=_cell(entry.id),
        parent=_cell(entry.parent),
        status=_cell(entry.status),
        hypothesis=_cell(entry.hypothesis),
        metric=_cell(f"{entry.metric}={entry.value:g}" if entry.value is not None else ""),
        delta=_NONE if entry.gain is None else f"{entry.gain:+.4g}" if entry.gain else "0",
        tier=_cell(entry.tier),
        finding=_cell(f"unreadable: {entry.error}" if entry.error else entry.finding),
    )


def _cell(text: str | None) -> str:
    return mask.markdown(text, _CELL) if text else _NONE


def _planned(found: Sequence[Entry]) -> Iterator[str]:
    """The ideas of the newest experiments that have any, and how many more there are."""
    listed = others = more = 0
    for entry in reversed(found):
        ideas = _ideas(f"{entry.folder}{os.sep}{contract.NEXT}")
        if listed == _PLANNED_FROM:
            others += bool(ideas)
            more += len(ideas)
            continue
        listed += bool(ideas)
        for name, idea in ideas:  # what the file says is Markdown already, and must not be escaped twice
            own = name.startswith((f"{entry.id}.", f"{entry.id}, "))
            after = "" if own else f" (after {_cell(entry.id)})"
            yield f"{mask.markdown(name)}{after}: {mask.markdown(mask.unescaped(idea))}"
    if more:
        where = f"{others} older experiment{'' if others == 1 else 's'}"
        yield f"and {more} more in the `{contract.NEXT}` of {where}"


def _ideas(path: str) -> Sequence[tuple[str, str]]:
    with suppress(OSError):
        return _ideas_in(path, contract.stamp(os.stat(path)))
    return ()


@lru_cache(maxsize=1 << 14)
def _ideas_in(path: str, _stamp: contract.Stamp) -> tuple[tuple[str, str], ...]:
    """The ideas in a file with this stamp."""
    return tuple(planned.ideas(Path(path).read_text("utf-8", "replace")))
