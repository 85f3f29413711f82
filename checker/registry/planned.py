"""`next.md`: the part between the markers is the checker's, everything else belongs to whoever wrote it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from checker import tomltext

Value = float | int | str | list[float]
"""What a setting is changed to."""

BEGIN = "<!-- checker: begin -->"
END = "<!-- checker: end -->"

PROVISIONAL = "The run is not over: these suggestions and their numbers may still change."
"""Stands in the marked part for as long as that is true."""

_MARKER = re.compile(rb"^(?:\xef\xbb\xbf)?<!-- checker: (begin|end) -->(?=[ \t]*\r?$)", re.MULTILINE)
_SECTION = re.compile(r"^##\s+(exp-\d+(?:\.\d+)?|\S+\.\d+)(?![\w.])", re.IGNORECASE)
_BY_HAND = re.compile(r"^##\s+(\S+), by hand\s*$")
_BULLET = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+(?=\S)(.*\S)")


class Idea(NamedTuple):
    """A planned experiment."""

    name: str
    text: str
    toml: str = ""
    """The change of the configuration; empty where none is given."""


def heading(folder: str) -> str:
    """A folder's name as a heading holds it: what has a meaning in Markdown, or none at all, becomes a dash."""
    return re.sub(r"[^\w.+-]+", "-", folder)[:100] or "-"


def ideas(text: str) -> list[Idea]:
    """The planned experiments in the text of a `next.md`: the first bullet of every section `## exp-<digits>`.

    A section of the checker's own names the parent too: `## exp-<digits>.<number>`. What is no change of the
    configuration stands below `## exp-<digits>, by hand`, where every bullet at the margin is an idea.
    """
    found: list[Idea] = []
    section: str | None = None
    by_hand = said = False
    fence: list[str] | None = None
    for line in text.removeprefix("\ufeff").splitlines():
        if line.lstrip().startswith("```"):
            if fence is None:
                fence = [line.strip()]
            else:
                if fence[0] == "```toml" and said and not by_hand and found[-1].toml == "":
                    found[-1] = found[-1]._replace(toml="\n".join(fence[1:]))
                fence = None
        elif fence is not None:
            fence.append(line)
        elif line.startswith("#"):
            manual = _BY_HAND.match(line)
            heading = manual or _SECTION.match(line)
            by_hand, said = manual is not None, False
            name = heading[1].lower() if heading else None
            section = f"{manual[1]}, by hand" if manual else name
        elif section and not said and (bullet := _BULLET.match(line)) and not (by_hand and line[:1].isspace()):
            found.append(Idea(section, bullet[1]))
            said = not by_hand
    return found


def split(old: bytes) -> tuple[bytes, bytes, bytes] | None:
    """What stands before, inside and behind the last complete pair of markers; None when there is no such pair."""
    marks = list(_MARKER.finditer(old))
    for first, second in zip(reversed(marks[:-1]), reversed(marks[1:]), strict=True):
        if (first[1], second[1]) == (b"begin", b"end"):
            return old[: first.start()], old[first.end() : second.start()], old[second.end() :]
    return None


def marked(old: bytes, section: str) -> bytes:
    """`old` with the marked part replaced; without a complete pair of markers a marked part is appended."""
    new = f"{BEGIN}\n{section.strip()}\n{END}".encode()
    parts = split(old)
    if parts is not None:
        bom = b"\xef\xbb\xbf" if old.startswith(b"\xef\xbb\xbf") and not parts[0] else b""
        return parts[0] + bom + new + parts[2]
    gap = b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n"
    return old + gap + new + b"\n"


def has_title(old: bytes) -> bool:
    """Whether a heading of the whole file stands outside the markers."""
    parts = split(old)
    outside = parts[0] + parts[2] if parts else old
    return re.search(rb"^# ", outside, re.MULTILINE) is not None


def numbers(wanted: Sequence[str], old: bytes, parent: str) -> list[str]:
    """A name for each idea, as a child of `parent`: the one it already has in the marked part, else a new one.

    While the run goes on its ideas are numbered anew each time, best first, and the page says so. Once a page was
    written about the run's end, `exp-006.1` stays what it is whatever else is created meanwhile; the child gets its own
    number when it is run.
    """
    known = named(old, parent)
    kept = {known[idea] for idea in wanted if idea in known}
    free = (name for name in (f"{parent}.{i}" for i in itertools.count(1)) if name not in kept)
    return [known[idea] if idea in known else next(free) for idea in wanted]


def named(old: bytes, parent: str) -> dict[str, str]:
    """The name of each idea for a child of `parent` that a page about the run's end has given out."""
    parts = split(old)
    inside = parts[1].decode("utf-8", "replace") if parts else ""
    found = [] if PROVISIONAL in inside else ideas(inside)
    return {idea.text: idea.name for idea in found if idea.name.startswith(f"{parent}.")}


def toml(change: Mapping[str, Value]) -> str:
    """Dotted keys as TOML tables: an overlay for the spec of the next run."""
    tables: dict[str, list[str]] = {}
    for key, value in change.items():
        table, _, last = key.rpartition(".")
        tables.setdefault(table, []).append(f"{last} = {_literal(value)}")
    return "\n\n".join("\n".join(([f"[{table}]"] if table else []) + lines) for table, lines in tables.items())


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return tomltext.written(value) if isinstance(value, str) else repr(value)
