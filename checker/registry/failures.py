"""Runs that fail the same way, and the settings that they share against the runs that do not fail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from checker.registry.catalog import Entry
from checker.registry.record import config_of
from checker.registry.separate import Separator, separators

_MOST = 100
"""Runs of a group that are compared; more tell no more."""


class Group(NamedTuple):
    """Several runs with one failure fingerprint."""

    failure: str
    entries: tuple[Entry, ...]
    shared: tuple[Separator, ...] = ()
    """Settings that clearly tell them from the runs that completed."""


def groups(entries: Sequence[Entry]) -> list[Group]:
    """The groups of two or more, the largest first."""
    by_failure: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.failure:
            by_failure[entry.failure].append(entry)
    found = [Group(failure, tuple(members)) for failure, members in by_failure.items() if len(members) > 1]
    return sorted(found, key=lambda group: -len(group.entries))


def explained(group: Group, entries: Sequence[Entry]) -> Group:
    """The group with the settings that tell it from the runs that completed without a failure."""
    sound = [entry.folder for entry in entries if entry.status == "completed" and not entry.failure]
    failed = [entry.folder for entry in group.entries]
    return group._replace(shared=_shared(tuple(failed[-_MOST:]), tuple(sound[-_MOST:])))


@lru_cache(maxsize=64)
def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[Separator, ...]:
    """What tells the runs in some folders from those in others; a configuration is written once and stays."""
    return tuple(item for item in separators(_configs(one), _configs(other), most=3) if item.clear)


def _configs(folders: Sequence[str]) -> list[Mapping[str, Any]]:
    return [config for folder in folders if (config := config_of(folder))]
