"""An alarm clock for run folders. It says *look there*, never what happened; a poll says the same, only later.

Kernel notifications make it fast on a local disk. Network file systems do not send them, and watches can run out; then
the poll alone is slower, not wrong.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Iterator
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
from watchdog.observers.api import BaseObserver

from contract import EXPERIMENT, METRICS, STATUS, Stamp, stamp

FILES = (METRICS, STATUS, EXPERIMENT)
"""The files whose change means something. Our own reports lie beside them and must not wake us."""

DEPTH = 2
"""Levels below the root on which run folders are looked for: `experiments/exp-001` and `experiments/zoo/exp-001`."""

_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
"""Without this filter a subscriber is woken by its own reads: each one is an opened and a closed event."""


logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # it warns on the console when a watch ends in mid-event


class Alarm(FileSystemEventHandler):
    """Collects the run folders that may have changed since the last `wait`."""

    def __init__(self, root: Path, poll: float = 1.0) -> None:
        self.root = root
        self.poll = poll
        self.trouble: str | None = None
        """Why there are no kernel notifications, if there are none."""
        self._queue: queue.SimpleQueue[Path | None] = queue.SimpleQueue()  # its put is safe in a signal handler
        self._queued: set[Path] = set()
        self._seen: dict[Path, tuple[Stamp | None, ...]] = {}
        self.refused: dict[Path, str] = {}
        """Folders that could not be looked into at the last poll, and why."""
        self._next_poll = 0.0
        self._observer: BaseObserver | None = None

    def start(self) -> None:
        """Begins to listen; when that is impossible, `trouble` says why and the poll carries on alone."""
        try:
            self._observer = Observer()  # already this fails where a user may have no more of them
            self._observer.schedule(self, str(self.root), recursive=True, event_filter=_EVENTS)
            self._observer.start()
        except (OSError, RuntimeError) as error:
            self.trouble = f"no file notifications ({error}); looking every {self.poll:g} s instead"

    def stop(self) -> None:
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join(0.5)

    def ring(self) -> None:
        """Ends the present `wait`."""
        self._queue.put(None)

    def wait(self, timeout: float) -> set[Path]:
        """Run folders that may have changed; returns after `timeout` seconds at the latest."""
        until_poll = self._next_poll - time.monotonic()
        woken: set[Path] = set()
        try:
            self._take(self._queue.get(timeout=max(0.0, min(timeout, until_poll))), woken)
            while True:
                self._take(self._queue.get_nowait(), woken)
        except queue.Empty:
            pass
        if time.monotonic() >= self._next_poll:
            woken |= self.look()
        return woken

    def _take(self, path: Path | None, into: set[Path]) -> None:
        if path is not None:
            self._queued.discard(path)  # before its files are read, so that a later change is not lost
            into.add(path)

    def look(self) -> set[Path]:
        """The poll: every run folder whose files are not as they were, new and vanished ones included."""
        self.refused = {}
        now = {folder: _stamps(folder) for folder in folders(self.root, refused=self.refused)}
        changed = {folder for folder, stamps in now.items() if self._seen.get(folder) != stamps}
        changed |= self._seen.keys() - now.keys()
        self._seen = now
        self._next_poll = time.monotonic() + self.poll
        return changed

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called in the observer's thread for every event that passed the filter."""
        place = Path(os.fsdecode(event.dest_path or event.src_path))
        if event.is_directory:
            self._put(place)
        elif place.name in FILES:
            self._put(place.parent)

    def _put(self, folder: Path) -> None:
        if folder not in self._queued:
            self._queued.add(folder)
            self._queue.put(folder)


def is_run(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in FILES)


def folders(root: Path, depth: int = DEPTH, refused: dict[Path, str] | None = None) -> Iterator[Path]:
    """Every run folder at or below `root`, once; what lies inside one (checkpoints) is not looked at.

    Links come last, and only for what has no place below `root` itself: `latest` is the name of a run, not another one,
    and two judges of one folder would find, tell and ask everything twice.

    Args:
        root: where to look.
        depth: how many levels below it.
        refused: takes in the folders that cannot be looked into, and why.
    """
    links: list[tuple[Path, int]] = []
    refused = {} if refused is None else refused
    found = list(_folders(root, depth, links, refused))
    yield from found
    if not links:
        return
    known = set(map(_identity, found))
    while links:
        place, left = links.pop(0)
        for folder in _folders(place, left, links, refused):
            identity = _identity(folder)
            if identity is not None and identity not in known:
                known.add(identity)
                yield folder


def _folders(root: Path, depth: int, links: list[tuple[Path, int]], refused: dict[Path, str]) -> Iterator[Path]:
    """As `folders`, but for links: these are put into `links`."""
    if is_run(root):
        yield root
        return
    try:
        if not depth:
            os.stat(root / METRICS)  # not there; or it may be a run folder that nobody lets us look into
            return
        with os.scandir(root) as entries:
            below = sorted((entry.name, entry.is_symlink()) for entry in entries if _folder(entry))
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            refused[root] = error.strerror or str(error)
        return
    for name, linked in below:
        if linked:
            links.append((root / name, depth - 1))
        else:
            yield from _folders(root / name, depth - 1, links, refused)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        info = os.stat(folder)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def unreachable(folder: Path) -> bool:
    """Whether nobody can say if it is still a run folder: it cannot be looked into just now."""
    try:
        os.stat(folder / METRICS)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return False


def _folder(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(".") and entry.is_dir()
    except OSError:
        return False


def _stamps(folder: Path) -> tuple[Stamp | None, ...]:
    return tuple(_stamp(folder / name) for name in FILES)


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp(os.stat(path))
    except OSError:
        return None
