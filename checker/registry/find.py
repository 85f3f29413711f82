"""Which experiment is meant: a folder, or an id in a folder of experiments; an unknown one gets its likes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from checker.registry.catalog import Entry, entries, entry_of


class Unknown(ValueError):
    """There is no such experiment; the message names those that are near."""


def catalog(root: Path) -> list[Entry]:
    """All experiments in `root`.

    Raises:
        Unknown: `root` is no folder that can be listed.
    """
    try:
        return entries(root)
    except OSError as error:
        raise Unknown(f"{root}: {error.strerror or error}; name the folder of the experiments") from None


def find(named: str, root: Path) -> tuple[Entry, list[Entry]]:
    """The experiment that is meant and all those beside it.

    Args:
        named: an id in `root`, or the path of an experiment's folder, wherever it lies.
        root: the folder of experiments.

    Raises:
        Unknown: there is none.
    """
    path = Path(named)
    if path.is_dir() and entry_of(path) is not None and (len(path.parts) > 1 or not (root / named).is_dir()):
        path = path.resolve()
        beside = catalog(path.parent)
        return next(entry for entry in beside if entry.name == path.name), beside
    known = catalog(root)
    for entry in known:
        if named in (entry.id, entry.name):
            return entry, known
    raise Unknown(f"{named}: no such experiment in {root}{_near(named, known)}")


def _near(named: str, known: Sequence[Entry]) -> str:
    if not known:
        return ", which has none at all"
    likes = difflib.get_close_matches(named, [entry.id for entry in known], n=3, cutoff=0.5)
    if likes:
        return f"; did you mean {' or '.join(likes)}?"
    last = ", ".join(entry.id for entry in known[-3:])
    return f"; the last of its {len(known)} are {last}" if len(known) > 3 else f"; it has {last}"
