"""What can be seen of a program's progress from outside. Standard library only.

A checker takes silence for a hang when the process that the status file names does nothing either. Of a shell script
that waits for the real program that is always so; what the others do in its stead must count, or a long evaluation
would be taken for a hang.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from trainer.external.guard import PROC

_LOOK_SECONDS = 5.0
"""Between two looks at the process table, which takes a few milliseconds."""

_BUSY = 0.1
"""Share of one core from which on a process does something; a checker draws the line there too."""

_BUSY_SECONDS = 1800.0
"""Work without a row or a word counts for so long; a checker, too, takes half an hour of it for a hang."""

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Progress:
    """When a program last printed something, wrote a row, or had others work for it.

    Args:
        spoke_at: when it last printed something, in seconds of the wall clock.
        metrics: where it writes its rows.
        others: the processes that work for the one that the status file names.
    """

    def __init__(self, spoke_at: Callable[[], float], metrics: Path, others: Callable[[], list[int]]) -> None:
        self._spoke_at, self._metrics, self._others = spoke_at, metrics, others
        self._looked_at = time.monotonic()
        self._used: Mapping[int, float] = {}
        self._worked_at = 0.0

    def at(self) -> float:
        """In seconds of the wall clock."""
        seen = self._spoke_at()
        with suppress(OSError):
            seen = max(seen, os.stat(self._metrics).st_mtime)
        since = time.monotonic() - self._looked_at
        if since >= _LOOK_SECONDS:
            self._look(since)
        return max(seen, min(self._worked_at, seen + _BUSY_SECONDS))

    def _look(self, since: float) -> None:
        used = {pid: cpu_seconds(pid) for pid in self._others()}
        worked = sum(max(0.0, seconds - self._used.get(pid, 0.0)) for pid, seconds in used.items())
        if worked >= _BUSY * since:
            self._worked_at = time.time()
        self._used, self._looked_at = used, self._looked_at + since


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 when it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
        fields = text[text.rindex(b")") + 2 :].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, ValueError, IndexError):
        return 0.0
