"""Bytes become events: one run's `metrics.jsonl`, read as it grows.

Only what ends with a newline counts, until the run is over: then its last line counts without one. Which events come
out depends on the bytes alone, never on how they arrived; so the daemon, which reads a file in a thousand pieces, and a
replay, which reads it in one, see the same run.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from checker.decoder import RowDecoder
from checker.events import Row, Unreadable
from checker.opened import FLAGS, Opened, identity, kind_of

CHUNK = 1 << 18
"""Bytes per read and per turn (some 30 ms): enough to read a gigabyte at full speed, and nobody waits long for it."""

_MARK = 64
"""Bytes before the offset that are kept and compared: a file rewritten in place may well be longer than the old one."""


class Tail:
    """One file and how far it has been read. No file stays open between two looks, so ten thousand runs fit."""

    __slots__ = (
        "_decoder",
        "_finished",
        "_id",
        "_mark",
        "_modified",
        "_name",
        "_told",
        "missing",
        "more",
        "offset",
        "trouble",
    )

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        self.offset = 0
        self.missing = True
        self.more = False
        """The last look left something for the next."""
        self._decoder = RowDecoder()
        self._id: tuple[int, int] | None = None
        self._mark = b""
        self._modified = -1
        self.trouble = ""
        """Why nothing can be read, if that is so; also told once, as an unreadable line 0."""
        self._told: tuple[int, int] | str | None = None
        self._finished = False
        """The bytes read so far ended in a line without newline, which has been counted all the same."""

    @property
    def path(self) -> Path:
        return Path(self._name)

    def again(self) -> Tail:
        """The same log, from its first byte."""
        return Tail(self.path)

    def fingerprint(self) -> str:
        return fingerprint(self.path)

    @property
    def unfinished(self) -> int:
        """Bytes of a last line that has no newline yet and has not been counted."""
        return self._decoder.unfinished

    @property
    def rows(self) -> int:
        return self._decoder.rows

    @property
    def lines(self) -> int:
        return self._decoder.lines

    def fresh(self) -> Iterable[Row | Unreadable] | None:
        """Up to `CHUNK` bytes of what was added, where one read shows that nothing else has happened; None where not.

        The common case of a live run: it costs four system calls, `rewritten` and `events` cost twelve.
        """
        if self._id is None or self._finished or self.missing:
            return None
        mark = len(self._mark)
        try:
            fd = os.open(self._name, FLAGS | os.O_NOFOLLOW)
            try:
                info = os.fstat(fd)
                if (info.st_dev, info.st_ino) != self._id:
                    return None
                data = os.pread(fd, mark + CHUNK, self.offset - mark)
            finally:
                os.close(fd)
        except OSError:
            return None
        if len(data) < mark or not data.startswith(self._mark):
            return None
        self.missing, self._modified, self._told, self.trouble = False, info.st_mtime_ns, None, ""
        added = data[mark:]
        self.offset += len(added)
        self.more = info.st_size > self.offset
        self._mark = data[-_MARK:]
        return self._decoder.feed(added) if added else ()

    def rewritten(self) -> bool:
        """Whether the bytes read so far are no longer the file's beginning. If so, the next `events` start at byte 0.

        A file that was cut, replaced, or deleted and made anew tells another story from its first byte; nothing that
        was concluded from the old one holds for it.
        """
        try:
            info = os.stat(self._name)
        except (FileNotFoundError, NotADirectoryError):
            self.missing = True
            return False
        except OSError:  # what cannot be looked at has not gone; `events` says what is wrong
            return False
        again = self.missing and self._id is not None
        self.missing = False
        same = not again and self._id in (None, identity(info)) and info.st_size >= self.offset
        same = same and not (self._finished and info.st_size > self.offset and self._glued())
        if same and (info.st_mtime_ns == self._modified or self._same_mark()):
            self._modified = info.st_mtime_ns
            return False
        read_something = self.offset > 0
        self._start_over()
        return read_something

    def _start_over(self) -> None:
        self.offset, self._decoder, self._id, self._mark, self._finished = 0, RowDecoder(), None, b"", False

    def _glued(self) -> bool:
        """Whether more was written to the line that had been taken for the last one."""
        with suppress(OSError), Opened(self.path) as fd:
            return fd is not None and os.pread(fd, 1, self.offset) != b"\n"
        return False

    def _same_mark(self) -> bool:
        if not self._mark:
            return True
        with suppress(OSError), Opened(self.path) as fd:
            return fd is None or os.pread(fd, len(self._mark), self.offset - len(self._mark)) == self._mark
        return True

    def events(self, most: float = math.inf) -> Iterator[Row | Unreadable]:
        """What has been added since the last look, about `most` bytes of it."""
        self.more = False
        try:
            log = Opened(self.path)
            with log as fd:
                if fd is None:
                    yield from self._odd(os.stat(self._name))
                    return
                info = os.fstat(fd)
                if self._id not in (None, identity(info)) or info.st_size < self.offset:
                    return  # changed since `rewritten` looked; the next look will see it
                self._id, self._told, self.trouble = identity(info), None, ""
                if self._finished and info.st_size > self.offset:
                    if os.pread(fd, 1, self.offset) != b"\n":
                        return  # as above
                    # The newline of the line that had been taken for the last one has come after all.
                    self._mark, self.offset, self._finished = (self._mark + b"\n")[-_MARK:], self.offset + 1, False
                # Up to the size found now: a file that grows faster than it is read must not hold the others up.
                end = min(info.st_size, self.offset + most)
                while self.offset < end and (
                    chunk := os.pread(fd, min(CHUNK, info.st_size - self.offset), self.offset)
                ):
                    self.offset += len(chunk)
                    self.more = info.st_size > self.offset >= end
                    self._mark = (self._mark + chunk[-_MARK:])[-_MARK:]
                    yield from log.discreet(self._decoder.feed(chunk))
        except (FileNotFoundError, NotADirectoryError):
            self.missing = True
        except OSError as error:
            if self._told != str(error):  # once, not at every look
                self._told = str(error)
                self.trouble = f"{self.path.name} cannot be read: {error.strerror or error}"
                yield Unreadable(0, self.trouble)

    def rest(self) -> Iterator[Row | Unreadable]:
        """The unfinished last line, once nothing more is expected. If it goes on after all, the file is `rewritten`."""
        if self.unfinished:
            self._finished = True
            yield from self._decoder.finish()

    def _odd(self, info: os.stat_result) -> Iterator[Unreadable]:
        """A pipe or a device could be read for ever, or never; it is mentioned once and left alone."""
        if self._told != identity(info):
            self._told = identity(info)
            self.trouble = f"{self.path.name} is {kind_of(info.st_mode)}, not a regular file"
            yield Unreadable(0, self.trouble)


def fingerprint(path: Path) -> str:
    """A short name for the run that a file tells of: a hash of its first line, which survives copying the folder.

    Raises:
        OSError: it cannot be read. Whoever took it for another file then would tell everything twice.
    """
    try:
        with Opened(path) as fd:
            head = os.pread(fd, 1 << 16, 0) if fd is not None else b""
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads nowhere is no file either
            return ""
        raise
    first, newline, _ = head.partition(b"\n")
    whole = newline or len(head) == 1 << 16
    return hashlib.sha256(first).hexdigest()[:12] if whole else ""
