"""Where run folders are, and which of their files mean something."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from contract import EXPERIMENT, METRICS, STATUS, stamp

FILES = (METRICS, STATUS, EXPERIMENT)
"""The files whose change means something. Our own reports lie beside them and must not wake us."""

ROWS, STATE, PLAN, FOLDER = 1, 2, 4, 8
"""What has been touched in a run folder: one of its files, or the folder itself; several of them add up."""

TOUCHED = {METRICS: ROWS, STATUS: STATE, EXPERIMENT: PLAN}
ANYTHING = ROWS | STATE | PLAN | FOLDER

DEPTH = 2
"""Levels below the root on which run folders are looked for: `experiments/exp-001` and `experiments/zoo/exp-001`."""


def is_run(folder: Path) -> bool:
    return any(os.path.lexists(f"{folder}{os.sep}{name}") for name in FILES)


def folders(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Every run folder at or below `root`; what lies inside one (checkpoints) is not looked at."""
    if is_run(root):
        yield root
    elif depth:
        for folder in inside(root):
            yield from folders(folder, depth - 1)


def inside(folder: Path) -> list[Path]:
    """The folders directly in `folder` that are not hidden; none when it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [folder / name for name in sorted(entry.name for entry in entries if _is_folder(entry))]
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(".") and entry.is_dir()
    except OSError:
        return False


def look(folder: Path) -> int:
    """A number that is another one when any of the files has changed, come or gone."""
    return hash(tuple(_stamp(f"{folder}{os.sep}{name}") for name in FILES))


def _stamp(path: str) -> object:
    try:
        return stamp(os.stat(path))
    except OSError:
        return None
