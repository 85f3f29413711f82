"""What a killed checker leaves: pages that were written beside their place and never put there.

A file of ours is removed once it is older than any page takes to write and no process has the number in its name. The
status file is written by trainers too, perhaps on another machine, and a suspended one may still come back to it.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

import contract

OURS_SECONDS = 60.0
"""A page is written in milliseconds."""

SHARED_SECONDS = 86_400.0
"""Longer than a trainer is suspended by whoever means to wake it again."""

_AGES = {
    **dict.fromkeys((contract.DIAGNOSIS, contract.CURVE, contract.NEXT, contract.CHECKLIST), OURS_SECONDS),
    contract.STATUS: SHARED_SECONDS,
}

_NAME = re.compile(rf"\.({'|'.join(map(re.escape, _AGES))})\.(\d{{1,10}})\.\d+\.tmp")


def clear(folder: Path) -> None:
    """Removes what no living process can still need from `folder`; what cannot be removed stays."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            known = _NAME.fullmatch(entry.name)
            if known is not None:
                with suppress(OSError):
                    _clear_one(entry, _AGES[known[1]], int(known[2]))


def _clear_one(entry: os.DirEntry[str], age: float, pid: int) -> None:
    old = abs(time.time() - entry.stat(follow_symlinks=False).st_mtime) > age
    if old and entry.is_file(follow_symlinks=False) and contract.process_started(pid) is None:
        os.unlink(entry.path)
