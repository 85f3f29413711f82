"""Where run folders are, and which of their files mean something."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from checker import source
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
    """Whether one of our files lies in a folder, or the log of another program does."""
    if is_ours(folder):
        return True
    try:
        return source.has_log(folder)
    except OSError:
        return False


def has_log(folder: Path) -> bool:
    """Whether a run folder has a log, ours or another program's: something was trained there."""
    return os.path.lexists(f"{folder}{os.sep}{METRICS}") or source.look(folder) is not None


def is_ours(folder: Path) -> bool:
    return any(os.path.lexists(f"{folder}{os.sep}{name}") for name in FILES)


def foreign(folder: Path) -> bool:
    """Whether the log of a run folder is not our own: changes of such a log are not announced."""
    return not os.path.lexists(f"{folder}{os.sep}{METRICS}") and source.look(folder) is not None


def may_become_run(folder: Path) -> bool:
    """Whether a file lies in a folder that may be the log of another program, once there is something in it."""
    with suppress(OSError):
        return any(map(source.may_be_log, os.listdir(folder)[: source.MOST_NAMES]))
    return False


def undecided(folder: Path) -> str:
    """Why a folder that is no run folder might be one, and somebody has to say which of its files is the log."""
    return source.undecided(folder)


def gone(folder: Path) -> bool:
    """Whether it is certain that this is no run folder any more: one that cannot be looked into may be."""
    if is_run(folder):
        return False
    try:
        os.stat(f"{folder}{os.sep}{METRICS}")
    except (FileNotFoundError, NotADirectoryError):
        return not _may_have_log(folder)
    except OSError:
        return False
    return False


def _may_have_log(folder: Path) -> bool:
    try:
        return source.has_log(folder)
    except OSError:
        return True


def folders(root: Path, depth: int = DEPTH, doubt: Callable[[Path, str], object] | None = None) -> Iterator[Path]:
    """Every run folder at or below `root`, once; what lies inside one (checkpoints) is not looked at.

    Args:
        root: where to look.
        depth: how many levels below it.
        doubt: hears of each folder that may be one, and why that cannot be told.
    """
    return _folders(root, depth, Links(root), doubt)


def _folders(folder: Path, depth: int, links: Links, doubt: Callable[[Path, str], object] | None) -> Iterator[Path]:
    if is_run(folder):
        yield folder
        return
    if doubt is not None and (why := undecided(folder)):
        doubt(folder, why)
    if depth:
        with suppress(OSError):
            for below in inside(folder):
                if links.takes(below):
                    yield from _folders(below, depth - 1, links, doubt)


def inside(folder: Path) -> list[Path]:
    """The folders directly in `folder` that are not hidden.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(folder) as entries:
        return [folder / name for name in sorted(entry.name for entry in entries if _is_folder(entry))]


class Links:
    """Which links lead to folders that are not found below the root anyway.

    `latest` is another name of a run, not another run: two judges of one folder would find, tell and ask everything
    twice. A link that leads upwards would never end.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self._taken: dict[str, Path] = {}

    def takes(self, folder: Path) -> bool:
        """Whether `folder` is to be looked into: no link, or the first one that leads to a place of its own."""
        if not os.path.islink(folder):  # unlike Path.is_symlink, false where nobody may look
            return True
        target = os.path.realpath(folder)
        if self._root == target or self._root.startswith(f"{target}{os.sep}"):
            return False
        if target.startswith(f"{self._root}{os.sep}") and self._has_a_place(Path(target)):
            return False
        known = self._taken.setdefault(target, folder)
        if known != folder and os.path.realpath(known) != target:  # that link leads elsewhere by now
            self._taken[target] = known = folder
        return known == folder

    def _has_a_place(self, target: Path) -> bool:
        """Whether it is looked into under its own name."""
        parts = target.relative_to(self._root).parts
        above = [Path(self._root, *parts[:depth]) for depth in range(1, len(parts))]
        return len(parts) <= DEPTH and not any(part.startswith(".") for part in parts) and not any(map(is_run, above))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(".") and entry.is_dir()
    except OSError:
        return False


def look(folder: Path) -> int:
    """A number that is another one when any of the files has changed, come or gone."""
    stamps = tuple(_stamp(f"{folder}{os.sep}{name}") for name in FILES)
    return hash(stamps if stamps[0] is not None else (*stamps, source.look(folder)))


def _stamp(path: str) -> object:
    try:
        return stamp(os.stat(path))
    except OSError:
        return None
