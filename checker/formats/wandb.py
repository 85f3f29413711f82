"""W&B's local run file (`run-ID.wandb`): the records of a run, in the log format of LevelDB.

After a head of 7 bytes the file consists of blocks of 32 KiB; a piece of a record is a checksum (4 bytes), its length
(2), its place in the record (1: all of it, 2: the first, 3: a middle one, 4: the last), and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from checker.events import Row, Unreadable
from checker.formats import wire
from checker.formats.format import Format, Reading

MAGIC = b":W&B"
_HEAD = 7
_BLOCK = 1 << 15
_PIECE = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

MAX_RECORD = 1 << 24
"""Bytes; a longer record is told and passed over."""

_HISTORY, _EXIT = 2, 18
"""The fields of a record: one call of `log`, and the end of the run."""

_KEY, _NESTED, _VALUE = 1, 2, 16
"""The fields of an item of the history."""


class RunDecoder:
    """The history of a run."""

    def __init__(self, reading: Reading) -> None:
        self.lines = 0
        self.rows = 0
        self._reading = reading
        self._at = 0
        """Bytes of the file that were taken in."""
        self._rest = bytearray()
        self._record = bytearray()
        """The pieces of a record so far, unless they are too many."""
        self._size = 0
        """Bytes of that record."""

    @property
    def unfinished(self) -> int:
        return len(self._rest) + self._size

    def feed(self, data: bytes) -> Iterator[Row | Unreadable]:
        self._rest += data
        while (piece := self._piece()) is not None:
            kind, content = piece
            if kind in (_FULL, _FIRST):
                self._record.clear()
                self._size = 0
            elif kind not in (_MIDDLE, _LAST) or not self._size:  # what fills a block, or the rest of a lost record
                continue
            self._size += len(content)
            if self._size <= MAX_RECORD:
                self._record += content
            if kind in (_FULL, _LAST):
                yield from self._told()

    def _piece(self) -> tuple[int, bytes] | None:
        """The next piece of a record; None while it has not been written to its end."""
        if not self._at:
            if len(self._rest) < _HEAD:
                return None
            self._take(_HEAD)
        left = _BLOCK - self._at % _BLOCK
        if left < _PIECE.size:
            if len(self._rest) < left:
                return None
            self._take(left)
        if len(self._rest) < _PIECE.size:
            return None
        _, size, kind = _PIECE.unpack_from(self._rest)
        if len(self._rest) < _PIECE.size + size:
            return None
        return kind, self._take(_PIECE.size + size)[_PIECE.size :]

    def _take(self, size: int) -> bytes:
        taken = bytes(self._rest[:size])
        del self._rest[:size]
        self._at += size
        return taken

    def _told(self) -> Iterator[Row | Unreadable]:
        """What a whole record says."""
        self.lines += 1
        record, size = bytes(self._record), self._size
        self._record.clear()
        self._size = 0
        if size > MAX_RECORD:
            yield Unreadable(self.lines, f"a record of {size:,} bytes; at most {MAX_RECORD:,} are read")
            return
        try:
            document = _document(record)
        except ValueError as error:
            yield Unreadable(self.lines, f"not a record of W&B ({error})")
            return
        if document:
            found = self._reading.row(document, self.rows, self.lines)
            self.rows += 1
            yield found

    def finish(self) -> Iterator[Row | Unreadable]:
        if self.unfinished:
            size = self.unfinished
            self._rest.clear()
            self._record.clear()
            self._size = 0
            yield Unreadable(self.lines + 1, f"the file ends in an unfinished record ({size:,} bytes)")


def _document(record: bytes) -> dict[str, Any]:
    """What a record tells of the curves; empty for all the others that a run writes."""
    for number, kind, _, data in wire.fields(record):
        if number == _HISTORY and kind == wire.BYTES:
            items = [piece for inner, kind_, _, piece in wire.fields(data) if inner == 1 and kind_ == wire.BYTES]
            return dict(item for piece in items if (item := _item(piece)) is not None)
        if number == _EXIT and kind == wire.BYTES:
            failed = any(inner == 1 and value for inner, _, value, _ in wire.fields(data))
            return {} if failed else {"event": "training_end"}
    return {}


def _item(data: bytes) -> tuple[str, Any] | None:
    """A name with its value."""
    names, value = list[str](), None
    for number, kind, _, piece in wire.fields(data):
        if number in (_KEY, _NESTED) and kind == wire.BYTES:
            names.append(piece.decode("utf-8", errors="replace"))
        elif number == _VALUE and kind == wire.BYTES:
            value = from_json(piece)
    return ("/".join(names), value) if names and not isinstance(value, list) else None


FORMAT = Format(
    "wandb",
    "Weights & Biases",
    ("run-*.wandb",),
    lambda head: head.startswith(MAGIC),
    decoder=RunDecoder,
    about="the file that a run keeps on its own machine, also when it is offline",
)
