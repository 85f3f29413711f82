"""Who descends from whom. A parent that is not there, or a circle of parents, is told and never followed for ever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from checker.registry.catalog import Entry


class Place(NamedTuple):
    """One experiment in a family tree."""

    depth: int
    """How many forks lie above it."""
    entry: Entry
    last: bool
    """Whether no sibling comes after it."""
    branch: bool = False
    """Whether it has siblings. An only child is as deep as its parent."""


class Family:
    """All experiments of a folder and how they are related."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.by_id: Mapping[str, Entry] = {entry.id: entry for entry in entries}
        self._children: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.parent is not None:
                self._children[entry.parent].append(entry)

    def parent(self, entry: Entry) -> Entry | None:
        return self.by_id.get(entry.parent) if entry.parent is not None else None

    def children(self, entry: Entry) -> list[Entry]:
        return self._children.get(entry.id, [])

    def ancestors(self, entry: Entry) -> tuple[list[Entry], str]:
        """From the parent up to the first, and a sentence where the line breaks off: a lost parent, a circle."""
        line: list[Entry] = []
        seen = {entry.id}
        at = entry
        while at.parent is not None:
            above = self.by_id.get(at.parent)
            if above is None:
                return line, f"{at.parent}, the parent of {at.id}, is not here"
            if above.id in seen:
                circle = [item.id for item in (entry, *line)]
                circle = circle[circle.index(above.id) :]
                return line, f"a circle of parents: {' → '.join((*circle, above.id))}"
            seen.add(above.id)
            line.append(above)
            at = above
        return line, ""

    def tree(self, top: Entry) -> Iterator[Place]:
        """`top` and all its descendants, each behind its parent."""
        seen: set[str] = set()
        stack = [Place(0, top, last=True)]
        while stack:
            place = stack.pop()
            if place.entry.id in seen:
                continue
            seen.add(place.entry.id)
            yield place
            below = [child for child in self.children(place.entry) if child.id not in seen]
            branch = len(below) > 1
            stack += [
                Place(place.depth + branch, child, child is below[-1] if branch else place.last, branch)
                for child in reversed(below)
            ]
