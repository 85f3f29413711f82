"""`events.jsonl` in the watched folder: one line for each thing that whoever watches the checker cares about.

The journal of each run stays the truth. A line is written after the journal's entry and before the report; when the
checker is killed in between, the next one finds the entry without its line and adds it, and never a line twice.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import time
from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import contract
from checker import journal, process
from checker.events import Life
from checker.feed import lines
from checker.journal import Entry
from checker.rows import seconds
from checker.status import Status

BEGIN = "begin"
"""The kind of the first line."""

HISTORY = 3600.0
"""Seconds before the feed began. A run that was over and untouched by then is history: the first look at a folder of
old runs would else tell all their endings at once. Whoever trains and then starts a checker is quicker than this."""

_MAX_LINE = 1 << 16
_MAX_SEQ = 1 << 53
"""What any JSON reader takes for a whole number; a larger one is no place in a feed."""

_MOST = 10_000
"""Lines that wait while the disk is full. Those beyond are told after the next start."""


class Feed:
    """The feed of one watched folder, for the one checker that holds its lock."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / contract.EVENTS
        self.begun = time.time()
        """What was journaled before is history."""
        self._last = 0
        self._known = array("Q")  # sorted: 8 bytes for every event ever told, where a set takes 70
        self._waiting: deque[dict[str, Any]] = deque()
        self._appender: contract.Appender | None = None
        self._complained = ""
        with suppress(OSError):
            self._recall()
        self._flush()

    def listen(self, folder: Path, name: str) -> Callable[[Entry], None]:
        """Tells what is missing of a run that is taken in; returns what is to hear every new entry of its journal."""
        run = "." if folder == self.root else name
        for entry in self._missing(folder, journal.entries(folder)):
            self._tell(entry, folder, run)

        def hear(entry: Entry) -> None:
            if lines.is_told(entry) and not self._history(folder):
                self._tell(entry, folder, run)

        return hear

    def listen_to_all(self, folder: Path) -> Callable[[Entry], None]:
        """As `listen`, of the journal that a folder of runs has for what is true of several of them."""
        name = str(folder.relative_to(self.root))

        def hear(entry: Entry) -> None:
            key = lines.key(entry, b"")
            if entry["kind"] in (lines.ALIKE, lines.HALT) and not self._has(key):
                self._put(key, lines.folder_line(entry, key, name))

        for entry in journal.entries(folder):
            if entry is not None and (seconds(entry.get("at")) or 0.0) >= self.begun:
                hear(entry)
        return hear

    def knows(self, folder: Path, last: list[Entry]) -> bool:
        """Whether everything that is journaled about a run has been told, as far as its `last` entries show."""
        return not self._missing(folder, last)

    def keep(self) -> list[str]:
        """Sees to it that the file is there and nothing waits; returns what is newly wrong with it."""
        trouble = self._flush()
        told, self._complained = self._complained, trouble
        return [trouble] if trouble not in ("", told) else []

    def close(self) -> None:
        if self._appender is not None:
            self._appender.close()
            self._appender = None

    # --------------------------------------------------------------------------------------------- what was told

    def _recall(self) -> None:
        known: set[int] = set()
        for number, line in enumerate(written(self.path)):
            seq = line["seq"]
            if not number:
                self.begun = seq / 1000
            self._last = max(self._last, seq)
            with suppress(KeyError, TypeError, ValueError):
                known.add(int(line["key"], 16) & 0xFFFF_FFFF_FFFF_FFFF)
        self._known = array("Q", sorted(known))

    def _missing(self, folder: Path, entries: Iterator[Entry | None] | list[Entry]) -> list[Entry]:
        missing = [
            entry
            for entry in entries
            if entry is not None
            and lines.is_told(entry)
            and (seconds(entry.get("at")) or 0.0) >= self.begun
            and not self._has(_key(entry, folder))
        ]
        return [] if missing and self._history(folder) else missing

    def _has(self, key: int) -> bool:
        at = bisect_left(self._known, key)
        return at < len(self._known) and self._known[at] == key

    def _history(self, folder: Path) -> bool:
        """Whether a run was over and nobody touched it for a while when the feed began."""
        touched = 0.0
        for name in (contract.METRICS, contract.STATUS):
            with suppress(OSError):
                touched = max(touched, os.stat(folder / name).st_mtime)
        if touched >= self.begun - HISTORY:
            return False
        status = Status(folder)
        status.refresh()
        if status.state is None or status.state.final:
            return True
        return process.look(process.parse(status.document)) is Life.GONE

    # --------------------------------------------------------------------------------------------------- writing

    def _tell(self, entry: Entry, folder: Path, run: str) -> None:
        key = _key(entry, folder)
        if not self._has(key):
            self._put(key, lines.line(entry, key, run, _document(folder)))

    def _put(self, key: int, line: dict[str, Any]) -> None:
        if len(self._waiting) < _MOST:
            insort(self._known, key)
            self._waiting.append(line)
            self._flush()

    def _flush(self) -> str:
        """Writes what waits; returns what is wrong. It raises nothing: no doomed run is spared for a full disk."""
        try:
            self._open()
            while self._waiting:
                self._append(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            why = "it is a symbolic link" if self.path.is_symlink() else error.strerror or error
            return f"{contract.EVENTS} cannot be written ({why}); who waits for events is not told"
        return ""

    def _open(self) -> None:
        """Opens the file, anew when it is not the one at its path any more; an empty one gets its first line."""
        if self._appender is not None and _same(self._appender.info(), self.path):
            return
        self.close()
        appender = contract.Appender(self.path, follow=False)
        info = appender.info()
        if not stat.S_ISREG(info.st_mode):
            appender.close()
            raise OSError(errno.EINVAL, "it is not a regular file", str(self.path))
        self._appender = appender
        appender.mend()
        if not info.st_size:
            first = {"at": contract.now(), "kind": BEGIN, "summary": "what was journaled before is not in this file"}
            self._append(first)
            self.begun = self._last / 1000

    def _append(self, line: Mapping[str, Any]) -> None:
        """One line at the next place: the time in milliseconds, or one more than the last where that is not more.

        So the places also grow from one feed to the next, when a person has deleted the file: a cursor stays good.
        """
        assert self._appender is not None
        seq = max(self._last + 1, math.ceil(time.time() * 1000))  # what follows is not older than what it says
        self._appender.append({"v": contract.FORMAT, "seq": seq, **line})
        self._last = seq


def written(path: Path) -> Iterator[dict[str, Any]]:
    """Every line of a feed that is one. A whole last line counts without its newline: an append will add that.

    Raises:
        OSError: the file cannot be read.
    """
    with os.fdopen(opened(path), "rb") as file:
        while text := file.readline(_MAX_LINE):
            if (line := parsed(text)) is not None:
                yield line


def opened(path: Path) -> int:
    """A feed, open for reading: neither a link to somewhere else nor something that would block.

    Raises:
        OSError: there is none.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return fd


def parsed(text: bytes) -> dict[str, Any] | None:
    """The line of a feed that `text` is, None when it is none: torn, or not by a checker."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        return None
    seq = found.get("seq")
    return found if type(seq) is int and 0 < seq < _MAX_SEQ else None


def _same(info: os.stat_result, path: Path) -> bool:
    try:
        now = os.lstat(path)
    except OSError:
        return False
    return (now.st_ino, now.st_dev) == (info.st_ino, info.st_dev) and now.st_size > 0


def _key(entry: Entry, folder: Path) -> int:
    return lines.key(entry, journal.first_line(folder) if lines.is_end(entry) else b"")


def _document(folder: Path) -> Mapping[str, Any]:
    status = Status(folder)
    status.refresh()
    return status.document
