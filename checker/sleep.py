"""For how long a process has been in one uninterruptible sleep, over many looks, and whether it is a zombie.

A disk access is such a sleep as well, and a busy one may be met at every look. So only a sleep that is the same at two
looks counts, which the kernel's count of sleeps tells.
"""

from __future__ import annotations

from typing import NamedTuple

import contract
from checker import process


class Seen(NamedTuple):
    """What `/proc` tells of a process beyond whether it lives."""

    blocked: float | None = None
    """Seconds for which its main thread has been in the same uninterruptible sleep, as far as we have looked."""
    zombie: bool | None = None
    """It has ended, and whoever started it has not taken note. None where it is not so: a look then says nothing."""


class Sleep:
    """The sleep of the process of one run."""

    __slots__ = ("_key", "_since")

    def __init__(self) -> None:
        self._key: tuple[contract.Process, int] | None = None
        self._since = 0.0

    def look(self, named: contract.Process | None, mono: float) -> Seen:
        """How `named` is at `mono` seconds of the monotonic clock."""
        count = process.slept(named)
        key = None if named is None or count is None else (named, count)
        if key != self._key:
            self._key, self._since = key, mono
        lasted = mono - self._since if key is not None else 0.0
        return Seen(lasted or None, process.zombie(named) or None)
