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
from checker.formats.format import Format, Half, Reading
from checker.names import ALIASES, LR
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
        self._decoders: list[Decoder] = []
        """One for each file: a record that one file ends in the middle of does not go on in the next."""
        self._parts: list[_Part] = []
        self._digest = hashlib.blake2b(digest_size=16)
        self._first = ""
        self._count = 0
        """Rows that were told."""
        self._bad = 0
        """Events that were told since and are no rows."""
        self._stamps: tuple[object, ...] = ()
        self._pending: deque[Row | Unreadable] = deque()
        """Events that are known and were not told yet."""
        self._half = False
        """It is just being written anew: nothing more is read before that is done."""
        self._unsettled = False
        """What was written a moment ago is not told yet."""
        self._finished = False
        """What was unfinished has been told as what it was."""

    def again(self) -> Retold:
        """The same log, from its first row."""
        return Retold(self.format, self._find, self.reading)

    @property
    def rows(self) -> int:
        return self._count

    @property
    def lines(self) -> int:
        return sum(decoder.lines for decoder in self._decoders)

    @property
    def unfinished(self) -> int:
        """Bytes after what was read that are no whole row yet."""
        return self._decoders[-1].unfinished if self._decoders else int(self._unsettled)

    def fingerprint(self) -> str:
        """A short name for the run that the log tells of: a digest of its first telling row.

        Raises:
            OSError: it cannot be read now.
        """
        if self._first:
            return self._first
        try:
            events = self.again()._whole(self._find())  # noqa: SLF001 - the same class
            return next(filter(None, (_name(event) for event in events if isinstance(event, Row))), "")
        except FileNotFoundError:
            return ""
        except (Half, contract.Unreadable) as error:
            raise OSError(errno.EAGAIN, str(error)) from None

    def fresh(self) -> None:
        """There is no short way."""

    def files(self) -> list[Path]:
        """Its files, in the order in which they tell."""
        try:
            return list(self._find())
        except OSError as error:
            self.trouble = f"cannot be read: {error.strerror or error}"
            return []

    # ------------------------------------------------------------------------------------------------------ looking

    def rewritten(self) -> bool:
        """Whether the log tells another story now. If so, the next `events` start at its first row."""
        paths = self.files()
        self.missing = not paths
        if not paths:
            return False
        self.path = paths[-1]
        stamps = tuple(map(_stamp, paths))
        if stamps == self._stamps:
            return False
        if self.format.read is None and not self._finished and self._grown(paths):
            self._half = False
            return False
        return self._retold(paths, stamps)

    def _grown(self, paths: Sequence[Path]) -> bool:
        """Whether the files are those that were read, with more at the end and perhaps another one behind them."""
        known = [part.path for part in self._parts]
        return known == list(paths[: len(known)]) and all(map(_same, self._parts))

    def _retold(self, paths: Sequence[Path], stamps: tuple[object, ...]) -> bool:
        """Reads everything again; whether it tells another story."""
        other, ahead = self.again(), deque[Row | Unreadable]()
        try:
            same = self._agrees(other, paths, ahead)
        except (OSError, contract.Unreadable) as error:
            self._stumbled(error)
            return False
        except Half as error:
            self._half = True
            if not _lately(paths):  # its writer died over it
                self._stamps = stamps
                self.trouble = f"ends in the middle ({error})"
            return False
        if other.rows < self._count and _lately(paths):
            self._half = True
            return False
        if not same:
            return self._start_over(paths, stamps)
        self._decoders, self._parts, self._pending = other._decoders, other._parts, ahead  # noqa: SLF001 - the same class
        self._unsettled = self.format.held_back > 0 and _lately(paths)
        self._stamps = () if self._unsettled else stamps
        self._half = self._finished = False
        self._well()
        return False

    def _agrees(self, other: Retold, paths: Sequence[Path], ahead: deque[Row | Unreadable]) -> bool:
        """Whether the story of another begins as this one; puts what goes beyond it into `ahead`."""
        known = hashlib.blake2b(digest_size=16)
        told = 0
        for event in other._whole(paths):
            if isinstance(event, Row) and other.rows <= self._count:
                known.update(_content(event))
            elif other.rows == self._count and told < self._bad:
                told += 1
            elif other.rows >= self._count:
                ahead.append(event)
        return other.rows >= self._count and known.digest() == self._digest.digest()

    def _start_over(self, paths: Sequence[Path], stamps: tuple[object, ...]) -> bool:
        told = self._count > 0
        self._begin()
        if self.format.read is not None:
            self._retold(paths, stamps)
        return told

    # ------------------------------------------------------------------------------------------------------ reading

    def events(self, most: float = math.inf) -> Iterator[Row | Unreadable]:
        """What has been added since the last look, about `most` bytes of it."""
        self.more = False
        limit = math.inf if most == math.inf else max(1, int(most) >> 9)
        while self._pending and limit > 0:
            limit -= 1
            yield self._tell(self._pending.popleft())
        self.more = bool(self._pending)
        if not (self.more or self.missing or self._half) and self.format.read is None:
            try:
                yield from self._grow(self.files(), most)
            except (OSError, contract.Unreadable) as error:
                self._stumbled(error)
        if self.trouble and self._troubled != self.trouble:
            self._troubled = self.trouble
            yield Unreadable(0, self.trouble)

    def rest(self) -> Iterator[Row | Unreadable]:
        """What is unfinished, once nothing more is expected. If it goes on after all, everything is compared anew."""
        while self._pending:
            yield self._tell(self._pending.popleft())
        self._finished = True
        for decoder in self._decoders:
            for event in decoder.finish():
                yield self._tell(event)

    def _tell(self, event: Row | Unreadable) -> Row | Unreadable:
        """An event that is told now, counted."""
        if not isinstance(event, Row):
            self._bad += 1
            return event
        event = event if event.index == self._count else event._replace(index=self._count)
        self._count, self._bad = self._count + 1, 0
        self._digest.update(_content(event))
        self._first = self._first or _name(event)
        return event

    def _whole(self, paths: Sequence[Path]) -> Iterator[Row | Unreadable]:
        """Everything that the files hold now; to be asked of a `Retold` that has told nothing.

        Raises:
            Half: they end in the middle.
            OSError, contract.Unreadable: they cannot be read.
        """
        if self.format.read is None:
            yield from self._grow(paths, math.inf)
        else:
            yield from map(self._tell, self.format.read(paths, self.reading))

    def _grow(self, paths: Sequence[Path], most: float) -> Iterator[Row | Unreadable]:
        """Reads on in each of the files, about `most` bytes in all."""
        stamps = tuple(map(_stamp, paths))
        for place, path in enumerate(paths):
            if stamps[place] is not None and stamps[place : place + 1] == self._stamps[place : place + 1]:
                continue
            log = Opened(path)
            with log as fd:
                if fd is None:
                    self.trouble = f"{path.name} is {kind_of(os.stat(path).st_mode)}, not a regular file"
                    return
                if place == len(self._parts):
                    self._begin_file(path, fd)
                for data in self._added(fd, place, most):
                    most -= len(data)
                    for event in log.discreet(self._decoders[place].feed(data)):
                        yield self._tell(event)
            if self.more:
                return
        self._stamps = stamps
        self._well()

    def _begin_file(self, path: Path, fd: int) -> None:
        if self.format.decoder is None:
            raise ValueError(f"{self.format.name} is neither saved nor appended")
        self._parts.append(_Part(path, identity(os.fstat(fd)), 0, b""))
        self._decoders.append(self.format.decoder(self.reading))

    def _added(self, fd: int, place: int, most: float) -> Iterator[bytes]:
        """What has been added to a file, about `most` bytes of it."""
        info = os.fstat(fd)
        part = self._parts[place]
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
            part = self._parts[place] = part._replace(offset=part.offset + len(data), mark=(part.mark + data)[-_MARK:])
            yield data

    def _stumbled(self, error: OSError | contract.Unreadable) -> None:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.trouble = f"{self.path.name} cannot be read: {why}"

    def _well(self) -> None:
        self.trouble, self._troubled = "", None


def _content(row: Row) -> bytes:
    """What a row tells, whatever else stands around it: columns may come in another order, and lines move."""
    return repr((row.step, row.epoch, row.event, sorted(row.values.items()))).encode()


def _name(row: Row) -> str:
    """A digest of a row; none for one that tells nothing but the learning rate, as the first row of each run may."""
    if all(ALIASES.get(name.lower(), ("",))[0] == LR for name in row.values):
        return ""
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


def _lately(paths: Sequence[Path]) -> bool:
    """Whether one of the files was written to a moment ago."""
    now = time.time()
    for path in paths:
        try:
            if abs(now - os.stat(path).st_mtime) < SETTLED_SECONDS:
                return True
        except OSError:
            return True
    return False
