"""Is my watcher alive? One sentence about the checker of a folder, for people."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import contract
from checker.places import DEPTH
from checker.rows import seconds


class Alive(StrEnum):
    LOOKING = "looking"
    SILENT = "silent"
    """It holds the folder, so that no other can, and does not look."""
    NONE = "none"


class Answer(NamedTuple):
    """What is known about the checker of a folder."""

    alive: Alive
    text: str
    watcher: contract.Watcher | None


def ask(folder: Path) -> Answer:
    """Who watches `folder`: a checker of its own, or one of a folder from which runs in it are found."""
    for place in (folder, *folder.parents[:DEPTH]):
        found = contract.watcher(place)
        if found is not None:
            where = "" if place == folder else f" from {place}"
            return _looking(found, where) if found.looking else _silent(found, where)
    last = contract.last_watcher(folder)
    if last is None:
        return Answer(Alive.NONE, "nobody watches this folder", None)
    who = f"the last checker (process {last.pid} on {last.host})"
    if last.ended:
        return Answer(Alive.NONE, f"nobody watches this folder; {who} left at {_clock(last.ended)}", last)
    looked = f" and last looked at {_clock(last.beat_at)}" if last.beat_at else ""
    return Answer(Alive.NONE, f"nobody watches this folder; {who} is gone without a word{looked}", last)


def _looking(found: contract.Watcher, where: str) -> Answer:
    parts = [
        f"watched{where} by process {found.pid} on {found.host}",
        f"since {_clock(found.started)}" if found.started else "",
        {"observe": "observing only", "judge": "judging once"}.get(found.mode or "", ""),
        "" if found.runs is None else f"{found.runs} run{'' if found.runs == 1 else 's'} read",
        "" if found.age is None or found.beat_at is None else f"looked {contract.lasted(found.age)} ago",
    ]
    return Answer(Alive.LOOKING, ", ".join(part for part in parts if part), found)


def _silent(found: contract.Watcher, where: str) -> Answer:
    for_so_long = contract.lasted(found.age or 0.0)
    told = f"held{where} by process {found.pid} on {found.host}, which has not looked for {for_so_long}"
    return Answer(Alive.SILENT, f"{told}: it is suspended or hangs, and nobody watches", found)


def _clock(text: str | None) -> str:
    """A time of a record as people read it."""
    at = seconds(text)
    return "an unknown time" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
