"""Where a hung program stood: the main thread in the last dump of `stacks.txt`, or of a rank's own such file."""

from __future__ import annotations

import os
import re
from pathlib import Path

import contract

_TAIL = 1 << 16
"""Bytes from the end: one dump of a hundred threads has less."""

_HOME = re.compile(r"python3\.\d+$")
"""The folder of the standard library; what is installed lies in `site-packages` below it."""

_FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$')


def frames(folder: Path, rank: int = 0, most: int = 3) -> list[str]:
    """The innermost frames of the main thread as `file:line function`, those of the standard library passed over.

    The dump is asked for with a signal, which Python handles in its main thread: the one that is marked as current.
    """
    path = folder / (contract.rank_stacks(rank) if rank else contract.STACKS)
    try:
        if path.parent.is_symlink() and rank:  # `ranks` may be no way out of the folder
            return []
        with open(contract.open_plain(path), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read(_TAIL).decode("utf-8", "replace")
    except (OSError, contract.Unreadable):
        return []
    _, _, current = text.rpartition("Current thread ")
    found = []
    for line in current.splitlines()[1:]:
        match = _FRAME.match(line)
        if match is None:
            break
        found.append((Path(match[1]), match[2], match[3]))
    own = [frame for frame in found if not _standard(frame[0])] or found
    return [f"{path.parent.name}/{path.name}:{line} {name}" for path, line, name in own[:most]]


def _standard(path: Path) -> bool:
    """Whether a file belongs to Python itself: waiting there is the symptom, calling it is the cause."""
    return "site-packages" not in path.parts and any(_HOME.match(part) for part in path.parts[:-1])
