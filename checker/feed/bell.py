"""Sleeping until a file grows: the kernel wakes us, and a slow look now and then covers where it does not."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from watchdog.events import FileModifiedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer


class Bell(FileSystemEventHandler):
    """Rings when the file at `path` is written to.

    Only this one file is listened to, not its folder: a folder of runs is written to a thousand times a second, and
    each of these writes would wake us.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rung = threading.Event()
        self._heard: tuple[int, int] | None = None
        """The file that is listened to."""
        self._observer: Any = None

    def listen(self) -> None:
        """Begins to listen, if the file is there; whoever reads afterwards misses nothing."""
        try:
            info = os.stat(self.path)
        except OSError:
            self.close()
            return
        if self._heard == (info.st_dev, info.st_ino):
            return
        self.close()
        try:
            observer = Observer()
            observer.schedule(self, str(self.path), recursive=False, event_filter=[FileModifiedEvent])
            observer.start()
        except (OSError, RuntimeError):  # no notifications here, or none left: the slow look remains
            return
        self._observer, self._heard = observer, (info.st_dev, info.st_ino)

    def wait(self, seconds: float) -> None:
        """Returns when the file has been written to since the last call, or after `seconds`."""
        self._rung.wait(max(0.0, seconds))
        self._rung.clear()

    def ring(self) -> None:
        """Wakes whoever waits; safe in a signal handler."""
        self._rung.set()

    def dispatch(self, event: FileSystemEvent) -> None:  # noqa: ARG002  # that there was one is all that it says
        self._rung.set()

    def close(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(0.5)
            self._observer = self._heard = None


class Deadline:
    """How much of a number of seconds is left; None for all the time in the world."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def at_most(self, seconds: float) -> float:
        """`seconds`, or what is left if that is less."""
        return seconds if self._end is None else max(0.0, min(seconds, self._end - time.monotonic()))
