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
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from checker import rows
from checker.events import Row, Unreadable

CHUNK = 1 << 18
"""Bytes per read and per turn (some 30 ms): enough to read a gigabyte at full speed, and nobody waits long for it."""

PORTION = 256
"""Lines that are decoded at once: enough to share what that costs, few enough to stay in the processor's caches."""

_MARK = 64
"""Bytes before the offset that are kept and compared: a file rewritten in place may well be longer than the old one."""

_BOM = b"\xef\xbb\xbf"

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Decoder:
    """The pure half: feed it bytes in pieces of any size."""

    __slots__ = ("_rest", "_skipped", "lines", "rows")

    def __init__(self) -> None:
        self.lines = 0
        self.rows = 0
        self._rest = bytearray()
        self._skipped = 0

    def feed(self, data: bytes) -> Iterator[Row | Unreadable]:
        """The events that `data` completes; what follows the last newline is held back."""
        if data and self.lines and not self._rest and not self._skipped and data.find(b"\n") == len(data) - 1:
            event = self._decode(data[:-1])  # one line, as a live run writes it
            if event is not None:
                yield event
            return
        *whole, rest = data.split(b"\n")
        if whole and (self._rest or self._skipped or not self.lines):  # only the first line can have begun before
            self._keep(whole.pop(0))
            event = self._line()
            if event is not None:
                yield event
        for start in range(0, len(whole), PORTION):
            yield from self._decode_all(whole[start : start + PORTION])
        self._keep(rest)

    @property
    def unfinished(self) -> int:
        """Bytes after the last newline."""
        return self._skipped or len(self._rest)

    def finish(self) -> Iterator[Row | Unreadable]:
        """The last line of a file that nobody writes any more: a whole JSON object counts without a newline too."""
        size = self.unfinished
        event = self._line() if size else None
        if isinstance(event, Unreadable):
            yield Unreadable(event.line, f"the file ends in an unfinished line ({size:,} bytes)")
        elif event is not None:
            yield event

    def _keep(self, piece: bytes) -> None:
        """Remembers part of a line, or only its length once it is too long to be a row."""
        if self._skipped or len(self._rest) + len(piece) > rows.MAX_LINE:
            self._skipped += len(self._rest) + len(piece)
            self._rest.clear()
        else:
            self._rest += piece

    def _line(self) -> Row | Unreadable | None:
        """The line that has been kept, now that it has come to its end."""
        if self._skipped:
            self.lines += 1
            size, self._skipped = self._skipped, 0
            return rows.too_long(size, self.lines)
        line = bytes(self._rest)
        self._rest.clear()
        if not self.lines:
            line = line.removeprefix(_BOM)
        return self._decode(line)

    def _decode_all(self, lines: list[bytes]) -> Iterable[Row | Unreadable]:
        """What whole lines say, blank ones left out."""
        found = rows.decode_all(lines, self.rows, self.lines + 1)
        if found is None:
            return filter(None, map(self._decode, lines))
        self.lines += len(found)
        self.rows += len(found)
        return found

    def _decode(self, line: bytes) -> Row | Unreadable | None:
        """What a line says; None for a blank one."""
        self.lines += 1
        event = rows.decode(line, self.rows, self.lines)
        if isinstance(event, Row):
            self.rows += 1
            return event
        return event if len(line) > rows.MAX_LINE or line.strip() else None


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
        "path",
        "trouble",
    )

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = str(path)
        self.offset = 0
        self.missing = True
        self.more = False
        """The last look left something for the next."""
        self._decoder = Decoder()
        self._id: tuple[int, int] | None = None
        self._mark = b""
        self._modified = -1
        self.trouble = ""
        """Why nothing can be read, if that is so; also told once, as an unreadable line 0."""
        self._told: tuple[int, int] | str | None = None
        self._finished = False
        """The bytes read so far ended in a line without newline, which has been counted all the same."""

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
            fd = os.open(self._name, _FLAGS | os.O_NOFOLLOW)
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
            info = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            self.missing = True
            return False
        except OSError:  # what cannot be looked at has not gone; `events` says what is wrong
            return False
        again = self.missing and self._id is not None
        self.missing = False
        same = not again and self._id in (None, _identity(info)) and info.st_size >= self.offset
        same = same and not (self._finished and info.st_size > self.offset and self._glued())
        if same and (info.st_mtime_ns == self._modified or self._same_mark()):
            self._modified = info.st_mtime_ns
            return False
        read_something = self.offset > 0
        self._start_over()
        return read_something

    def _start_over(self) -> None:
        self.offset, self._decoder, self._id, self._mark, self._finished = 0, Decoder(), None, b"", False

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
                    yield from self._odd(os.stat(self.path))
                    return
                info = os.fstat(fd)
                if self._id not in (None, _identity(info)) or info.st_size < self.offset:
                    return  # changed since `rewritten` looked; the next look will see it
                self._id, self._told, self.trouble = _identity(info), None, ""
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
        if self._told != _identity(info):
            self._told = _identity(info)
            self.trouble = f"{self.path.name} is {_kind(info.st_mode)}, not a regular file"
            yield Unreadable(0, self.trouble)


class Opened:
    """A log opened without ever waiting; None when it is no regular file.

    A log may be a link to another disk. It is followed where whoever made it could read that file as well: it must be
    their own, or the link be ours; and what is no row in it is not shown to anybody.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self.linked = False

    def __enter__(self) -> int | None:
        try:
            self.fd = os.open(self.path, _FLAGS | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, or a device without a driver
                return None
            if error.errno not in (errno.ELOOP, errno.EMLINK):
                raise
            self._follow()
        return self.fd if stat.S_ISREG(os.fstat(self.fd).st_mode) else None

    def _follow(self) -> None:
        self.linked = True
        self.fd = os.open(self.path, _FLAGS)
        owner = os.fstat(self.fd).st_uid
        if os.lstat(self.path).st_uid not in (owner, os.geteuid(), 0):
            os.close(self.fd)
            self.fd = -1
            raise PermissionError(errno.EPERM, "is a link to a file of another user, which is not followed")

    def discreet(self, events: Iterable[Row | Unreadable]) -> Iterator[Row | Unreadable]:
        """`events`; of a line in a file that a link leads to, and that is no row, nobody is told how it begins."""
        for event in events:
            secret = self.linked and isinstance(event, Unreadable)
            yield Unreadable(event.line, "holds no row") if secret else event

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISDIR, "a folder"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")


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
