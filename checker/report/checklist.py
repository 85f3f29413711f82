"""`CHECKLIST.md`: one line per experiment, what is planned next, what was tried in vain, what keeps failing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import contract
from checker import mask, wording
from checker.registry import alike, failures, ideas
from checker.registry.catalog import Entry, each, entries, related
from checker.registry.record import config_of
from checker.report import render

__all__ = ["Entry", "entries", "steps", "write"]

_CELL = 70
_NONE = "—"
_PLANNED_FROM = 3
"""The ideas of this many experiments are listed, the newest that have any; the others are counted."""
_MOST = 10
"""Dead ends and failures that are listed; the others are counted."""


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
    planned: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)


def write(root: Path) -> None:
    """Brings `CHECKLIST.md` in `root` up to date; it is not touched while nothing has changed.

    Raises:
        OSError: `root` cannot be read or written.
    """
    for _ in steps(root):
        pass


def steps(root: Path) -> Iterator[None]:
    """As `write`, bit by bit: one step for each experiment, and one for the page."""
    known = []
    for entry in each(root):
        if entry is not None:
            known.append(entry)
        yield
    render.put(root / contract.CHECKLIST, render.page("checklist.md.j2", _view(related(known))).encode())


def _view(found: Sequence[Entry]) -> View:
    counts = Counter(entry.status for entry in found)
    each = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    reached = Counter(entry.tier for entry in found if entry.tier in contract.TIERS)
    tiers = "; ".join(f"{reached[tier]} reached {tier}" for tier in contract.TIERS if reached[tier])
    legend = "Δ vs parent: + is better, - is worse, whichever way the metric improves."
    plans = ideas.plans(found)
    return View(
        counts=f"{wording.count(len(found), 'experiment')}: {each}.{f' {tiers}.' if tiers else ''}"
        if found
        else "No experiments yet.",
        legend=f"Written by the checker; edits are overwritten. {legend}",
        rows=[_row(entry) for entry in found],
        planned=list(_planned(plans)),
        dead=list(_cut(list(map(_dead, ideas.dead(plans))))),
        failing=[*_cut(list(_sweeps(found))), *_cut([_failing(group, found) for group in failures.groups(found)])],
    )


@lru_cache(maxsize=1 << 16)
def _row(entry: Entry) -> Row:
    return Row(
        exp=_cell(entry.id),
        parent=_cell(entry.parent),
        status=_cell(entry.standing),
        hypothesis=_cell(entry.hypothesis),
        metric=_cell(f"{entry.metric}={entry.value:g}" if entry.value is not None else ""),
        delta=_NONE if entry.gain is None else f"{entry.gain:+.4g}" if entry.gain else "0",
        tier=_cell(entry.tier),
        finding=_cell(_top(entry)),
    )


def _top(entry: Entry) -> str:
    """What a reader should know first: why it cannot be read, what is odd, what was found, what it fell short of."""
    if entry.error:
        return f"unreadable: {entry.error}"
    return "; ".join(filter(None, (entry.remark, entry.finding or entry.failure or entry.shortfall)))


def _cell(text: str | None) -> str:
    return mask.markdown(text, _CELL) if text else _NONE


def _planned(plans: Sequence[ideas.Planned]) -> Iterator[str]:
    """The ideas of the newest experiments that have any which are not over, and how many more there are."""
    origins: dict[str, int] = {}
    more = 0
    for idea in plans:
        if idea.tried is not None and idea.tried.over:
            continue
        origins[idea.origin.id] = origins.get(idea.origin.id, 0) + 1
        if len(origins) > _PLANNED_FROM:
            more += 1
            continue
        own = idea.name.startswith((f"{idea.origin.id}.", f"{idea.origin.id}, "))
        after = "" if own else f" (after {_cell(idea.origin.id)})"
        now = "" if idea.tried is None else f" (as {_cell(idea.tried.id)}, {idea.tried.status})"
        yield f"{mask.markdown(idea.name)}{after}: {mask.markdown(idea.text)}{now}"
    if more:
        where = wording.count(len(origins) - _PLANNED_FROM, "older experiment")
        yield f"and {more} more in the `{contract.NEXT}` of {where}"


def _dead(idea: ideas.Planned) -> str:
    tried = idea.tried
    assert tried is not None
    came = [tried.status]
    if tried.failure:
        came.append(mask.markdown(tried.failure, _CELL))
    elif tried.value is not None and math.isfinite(tried.value):
        came.append(mask.markdown(f"{tried.metric}={tried.value:g}", _CELL))
    if tried.gain is not None:
        came.append(f"{tried.gain:+.4g}" if tried.gain else "no change")
    return f"{mask.markdown(idea.name)}: {mask.markdown(idea.text)}: tried as {_cell(tried.id)} ({', '.join(came)})"


def _failing(group: failures.Group, found: Sequence[Entry]) -> str:
    known = failures.explained(group, found)
    who = ", ".join(_cell(entry.id) for entry in group.entries[-_MOST:])
    more = f" and {len(group.entries) - _MOST} earlier" if len(group.entries) > _MOST else ""
    told = f"{mask.markdown(group.failure, 120)}: {len(group.entries)} runs ({who}{more})"
    shared = "; ".join(
        f"{mask.markdown(item.key)} {wording.value(item.one)} against {wording.value(item.other)}"
        for item in known.shared
    )
    return told + (f". What tells them from the completed ones: {shared}" if shared else "")


def _sweeps(found: Sequence[Entry]) -> Iterator[str]:
    """The runs of one sweep that fail alike; those that name no sweep stand below as a group."""
    runs = [
        (entry.sweep, alike.Sibling(entry.folder, entry.status, entry.failure, entry.rule, entry.step))
        for entry in found
        if entry.sweep
    ]
    for sweep, siblings in alike.by_sweep(runs).items():
        for group in alike.groups(siblings):
            known = group._replace(shared=_shared(group.failed, group.sound))
            yield f"{mask.markdown(sweep)}: {mask.markdown(alike.sentence(known), 600)}"


@lru_cache(maxsize=64)
def _shared(failed: tuple[str, ...], sound: tuple[str, ...]) -> tuple[alike.Shared, ...]:
    return alike.shared([config_of(folder) for folder in failed], [config_of(folder) for folder in sound])


def _cut(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:_MOST]
    if len(lines) > _MOST:
        yield f"and {len(lines) - _MOST} more"
