"""SIGHUP means two things: read your limits again, or your terminal is gone.

A watch that shows a live table ends with its terminal, as any program on a screen does. Every other one reads its
limits again, and goes on whatever becomes of the terminal it was started from: a watchdog must not die because somebody
closed a lid.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

STDIN, STDOUT, STDERR = 0, 1, 2


class Hangup:
    """Catches SIGHUP from its creation on; `asked` says that the limits are to be read again."""

    def __init__(self, stop: Callable[[int], object], ring: Callable[[], object], *, screen: bool) -> None:
        self.asked = False
        self._stop, self._ring, self._screen = stop, ring, screen
        self._terminals = [fd for fd in (STDIN, STDOUT, STDERR) if _is_terminal(fd)]
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._caught)

    def _caught(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a signal handler's shape
        gone = [fd for fd in self._terminals if not _is_terminal(fd)]
        for fd in gone:  # whatever is still said there must not fail
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, fd)
            os.close(null)
        if self._screen and STDOUT in gone:
            self._stop(signum)
        else:
            self.asked = True
            self._ring()


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
