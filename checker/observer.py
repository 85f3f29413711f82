"""File notifications by watchdog, where there is no inotify: macOS, the BSDs, Windows."""

from __future__ import annotations

import logging
import os
import queue
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from checker.places import FOLDER, TOUCHED

_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
"""Without this filter a subscriber is woken by its own reads: each one is an opened and a closed event."""

logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # it warns on the console when a watch ends in mid-event


class Tree(FileSystemEventHandler):
    """Watches everything below a folder.

    Raises:
        OSError, RuntimeError: the system cannot do so.
    """

    def __init__(self, root: Path) -> None:
        self._queue: queue.SimpleQueue[tuple[Path, int] | None] = queue.SimpleQueue()
        self._observer = Observer()
        self._observer.schedule(self, str(root), recursive=True, event_filter=_EVENTS)
        self._observer.start()

    def add(self, folder: Path) -> None:
        """Nothing needs to be done: it lies below the root."""

    def remove(self, folder: Path) -> bool:  # noqa: ARG002
        """A part of the tree cannot be left out."""
        return False

    def ring(self) -> None:
        """Ends the present wait, or the next; safe in a signal handler."""
        self._queue.put(None)

    def wait(self, seconds: float) -> dict[Path, int]:
        """What has been touched in which folder since the last call; waits until there is something to tell."""
        touched: dict[Path, int] = {}
        try:
            item = self._queue.get(timeout=max(0.0, seconds))
            while True:
                if item is not None:
                    touched[item[0]] = touched.get(item[0], 0) | item[1]
                item = self._queue.get_nowait()
        except queue.Empty:
            return touched

    def close(self) -> None:
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join(0.5)

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called in the observer's thread for every event that passed the filter."""
        place = Path(os.fsdecode(event.dest_path or event.src_path))
        if event.is_directory:
            self._queue.put((place, FOLDER))
        elif place.name in TOUCHED:
            self._queue.put((place.parent, TOUCHED[place.name]))
