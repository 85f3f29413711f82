"""A log of another program, which need not only grow: it may be written anew, or go on in another file.

What is told again from the beginning must be the story that is known, and then goes on where it was. That is found out
by a running digest of its rows; another story is judged as a new one.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import contract
from checker.decoder import Decoder
from checker.events import Row, Unreadable
from checker.formats.format import Format, Half, Kept, Reading
from checker.opened import Opened, identity, kind_of
from checker.tail import CHUNK

SETTLED_SECONDS = 3.0
"""A file that tells less than it did, and was written to so lately, is just being written anew."""

_MARK = 64
"""Bytes at the end of what was read that are compared at the next look."""


class _Part(NamedTuple):
    """One file, and how far it has been read."""

    path: Path
    file: tuple[int, int]
    offset: int
    mark: bytes


class Retold:
    """The log that `find` finds, understood as `format`. It is used as a `Tail` is.

    Args:
        format_: what kind of log it is.
        find: its files, in the order in which they tell.
        reading: how it is to be understood where it does not say so itself.
    """

    def __init__(self, format_: Format, find: Callable[[], Sequence[Path]], reading: Reading) -> None:
        self.format, self.reading, self._find = format_, reading, find
        self.missing = True
        self.more = False
        """The last look left something for the next."""
        self.trouble = ""
        """Why nothing can be read, if that is so; also told once, as an unreadable line 0."""
        self.path = Path()
        self._troubled: str | None = None
        self._begin()

    def _begin(self) -> None:
        self._decoder = self._new()
        self._digest = hashlib.blake2b(digest_size=16)
        self._first = ""
        self._count = 0
        """Rows that were told."""
        self._lines = 0
        self._parts: tuple[_Part, ...] = ()
        self._stamps: tuple[object, ...] = ()
        self._pending: deque[Row | Unreadable] = deque()
        """Events that are known and were not told yet."""
        self._half = False
        """It is just being written anew: nothing more is read before that is done."""

    def _new(self) -> Decoder | None:
        return self.format.decoder(self.reading) if self.format.decoder is not None else None

    def again(self) -> Retold:
        """The same log, from its first row."""
        return Retold(self.format, self._find, self.reading)

    @property
    def rows(self) -> int:
        return self._count

    @property
    def lines(self) -> int:
        return self._decoder.lines if self._decoder is not None else self._lines

    @property
    def unfinished(self) -> int:
        """Bytes after what was read that are no whole row yet."""
        return self._decoder.unfinished if self._decoder is not None else 0

    def fingerprint(self) -> str:
        """A short name for the run that the log tells of: a digest of its first row.

        Raises:
            OSError: it cannot be read now.
        """
        if self._first:
            return self._first
        try:
            events = self.again()._all(lambda _: None)  # noqa: SLF001 - the same class
            return next((_name(event) for event in events if isinstance(event, Row)), "")
        except FileNotFoundError:
            return ""
        except (Half, contract.Unreadable) as error:
            raise OSError(errno.EAGAIN, str(error)) from None

    def fresh(self) -> None:
        """There is no short way."""

    # ------------------------------------------------------------------------------------------------------ looking

    def rewritten(self) -> bool:
        """Whether the log tells another story now. If so, the next `events` start at its first row."""
        paths = self._paths()
        self.missing = not paths
        if not paths:
            return False
        self.path = paths[-1]
        stamps = tuple(map(_stamp, paths))
        if stamps == self._stamps:
            return False
        if self.format.kept is not Kept.SAVED and (not self._parts or self._grown(paths)):
            return False
        return self._retold(stamps)

    def files(self) -> list[Path]:
        """Its files, in the order in which they tell."""
        return self._paths()

    def _paths(self) -> list[Path]:
        try:
            return list(self._find())
        except OSError as error:
            self.trouble = f"cannot be read: {error.strerror or error}"
            return []

    def _grown(self, paths: Sequence[Path]) -> bool:
        """Whether the files are those that were read, with more at the end and perhaps another one behind them."""
        if len(paths) < len(self._parts) or any(
            part.path != path for part, path in zip(self._parts, paths, strict=False)
        ):
            return False
        return all(map(_same, self._parts))

    def _retold(self, stamps: tuple[object, ...]) -> bool:
        """Reads everything again; whether it tells another story."""
        other = self.again()
        parts: list[_Part] = []
        known, count, ahead = hashlib.blake2b(digest_size=16), 0, deque[Row | Unreadable]()
        try:
            for event in other._all(parts.append):  # noqa: SLF001 - the same class
                if not isinstance(event, Row):
                    if count >= self._count:
                        ahead.append(event)
                    continue
                count += 1
                if count > self._count:
                    ahead.append(event)
                    continue
                known.update(_content(event))
        except Half:
            self._half = True
            return False
        except (OSError, contract.Unreadable) as error:
            self._stumbled(error)
            return False
        if count < self._count and _lately(parts):
            self._half = True
            return False
        if count < self._count or known.digest() != self._digest.digest():
            return self._start_over()
        self._decoder, self._lines = other._decoder, other._lines  # noqa: SLF001 - the same class
        self._parts, self._stamps = tuple(parts), stamps
        self._pending = ahead
        self._half = False
        self.trouble, self._troubled = "", None
        return False

    def _start_over(self) -> bool:
        told = self._count > 0
        self._begin()
        return told

    # ------------------------------------------------------------------------------------------------------ reading

    def events(self, most: float = math.inf) -> Iterator[Row | Unreadable]:
        """What has been added since the last look, about `most` bytes of it."""
        self.more = False
        try:
            if not (self._pending or self.missing or self._half):
                if self.format.kept is Kept.SAVED and not self._stamps:
                    self._retold(tuple(map(_stamp, self._paths())))
                elif self.format.kept is not Kept.SAVED:
                    yield from self._grow(most)
        except (OSError, contract.Unreadable) as error:
            self._stumbled(error)
        limit = len(self._pending) if most == math.inf else max(1, int(most) >> 9)
        while self._pending and limit:
            limit -= 1
            yield self._tell(self._pending.popleft())
        self.more = self.more or bool(self._pending)
        if self.trouble and self._troubled != self.trouble:
            self._troubled = self.trouble
            yield Unreadable(0, self.trouble)

    def rest(self) -> Iterator[Row | Unreadable]:
        """What is unfinished, once nothing more is expected."""
        while self._pending:
            yield self._tell(self._pending.popleft())
        if self._decoder is not None:
            for event in self._decoder.finish():
                yield self._tell(event)

    def _tell(self, event: Row | Unreadable) -> Row | Unreadable:
        """Counts an event that is told now."""
        if isinstance(event, Row):
            self._count += 1
            self._digest.update(_content(event))
            self._first = self._first or _name(event)
        return event

    def _grow(self, most: float) -> Iterator[Row | Unreadable]:
        """Reads on in the last file, and in those behind it."""
        paths = self._paths()
        stamps = tuple(map(_stamp, paths))
        for place, path in enumerate(paths):
            if place < len(self._parts) - 1:
                continue
            before = sum(part.offset for part in self._parts)
            with Opened(path) as fd:
                if fd is None:
                    self.trouble = f"{path.name} is {kind_of(os.stat(path).st_mode)}, not a regular file"
                    return
                if place == len(self._parts):
                    self._parts += (_Part(path, identity(os.fstat(fd)), 0, b""),)
                for data in self._added(fd, most):
                    for event in self._decoder.feed(data) if self._decoder is not None else ():
                        yield self._tell(event)
            most -= sum(part.offset for part in self._parts) - before
            if self.more:
                return
        self._stamps, self.trouble, self._troubled = stamps, "", None

    def _added(self, fd: int, most: float) -> Iterator[bytes]:
        """What has been added to the last file that was begun, about `most` bytes of it."""
        info = os.fstat(fd)
        part = self._parts[-1]
        if part.file != identity(info) or info.st_size < part.offset:
            return  # changed since `rewritten` looked; the next look will see it
        while part.offset < info.st_size:
            if most <= 0:
                self.more = True
                return
            data = os.pread(fd, min(CHUNK, info.st_size - part.offset), part.offset)
            if not data:
                return
            most -= len(data)
            part = part._replace(offset=part.offset + len(data), mark=(part.mark + data)[-_MARK:])
            self._parts = (*self._parts[:-1], part)
            yield data

    def _all(self, note: Callable[[_Part], object]) -> Iterator[Row | Unreadable]:
        """Everything that the files hold now, `note` hears how far each was read.

        Raises:
            Half: they end in the middle.
            OSError, contract.Unreadable: they cannot be read.
        """
        paths = self._find()
        if self.format.read is not None:
            found = list(self.format.read(paths, self.reading))
            self._lines = len(found)
            for path in paths:
                info = os.stat(path)
                note(_Part(path, identity(info), info.st_size, b""))
            yield from found
        if self._decoder is None:
            return
        for path in paths:
            with Opened(path) as fd:
                if fd is None:
                    continue
                info = os.fstat(fd)
                part = _Part(path, identity(info), 0, b"")
                while part.offset < info.st_size and (data := os.pread(fd, CHUNK, part.offset)):
                    part = part._replace(offset=part.offset + len(data), mark=(part.mark + data)[-_MARK:])
                    yield from self._decoder.feed(data)
                note(part)

    def _stumbled(self, error: OSError | contract.Unreadable) -> None:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.trouble = f"{self.path.name} cannot be read: {why}"


def _content(row: Row) -> bytes:
    """What a row tells, whatever else stands around it: columns may come in another order, and lines move."""
    return repr((row.step, row.epoch, row.event, sorted(row.values.items()))).encode()


def _name(row: Row) -> str:
    return hashlib.sha256(_content(row)).hexdigest()[:12]


def _same(part: _Part) -> bool:
    """Whether a file still begins with what was read of it."""
    try:
        with Opened(part.path) as fd:
            if fd is None:
                return False
            info = os.fstat(fd)
            if identity(info) != part.file or info.st_size < part.offset:
                return False
            return os.pread(fd, len(part.mark), part.offset - len(part.mark)) == part.mark
    except OSError:
        return True  # what cannot be looked at has not changed; reading it will say what is wrong


def _stamp(path: Path) -> object:
    try:
        return contract.stamp(os.stat(path))
    except OSError:
        return None


def _lately(parts: Sequence[_Part]) -> bool:
    """Whether one of the files was written to a moment ago."""
    now = time.time()
    for part in parts:
        try:
            if abs(now - os.stat(part.path).st_mtime) < SETTLED_SECONDS:
                return True
        except OSError:
            return True
    return False
