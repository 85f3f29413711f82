"""Bytes become events: the pure half of reading a log, fed in pieces of any size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from checker import rows
from checker.events import Row, Unreadable

PORTION = 256
"""Lines that are decoded at once: enough to share what that costs, few enough to stay in the processor's caches."""

_BOM = b"\xef\xbb\xbf"


class Decoder(Protocol):
    """What understands the bytes of one kind of log. Which events come out never depends on how the bytes arrived."""

    lines: int
    """Lines (of binary logs: records) that were read."""
    rows: int
    """Rows among them."""

    @property
    def unfinished(self) -> int:
        """Bytes that were fed and belong to something that has not come to its end."""
        ...

    def feed(self, data: bytes) -> Iterator[Row | Unreadable]:
        """The events that `data` completes."""
        ...

    def finish(self) -> Iterator[Row | Unreadable]:
        """What is unfinished, taken for what it is: nobody writes the log any more."""
        ...


class LineDecoder:
    """Any log that consists of lines; a kind of log says what a line means."""

    __slots__ = ("_rest", "_skipped", "lines", "rows")

    def __init__(self) -> None:
        self.lines = 0
        self.rows = 0
        self._rest = bytearray()
        self._skipped = 0

    def read(self, line: bytes) -> Row | Unreadable | None:
        """What a line says; None when it is none of the log's business. `self.lines` counts it already."""
        raise NotImplementedError

    def read_all(self, lines: list[bytes]) -> Iterable[Row | Unreadable]:
        """What several lines say."""
        return filter(None, map(self._decode, lines))

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
            yield from self.read_all(whole[start : start + PORTION])
        self._keep(rest)

    @property
    def unfinished(self) -> int:
        """Bytes after the last newline."""
        return self._skipped or len(self._rest)

    def finish(self) -> Iterator[Row | Unreadable]:
        """The last line of a file that nobody writes any more: a whole one counts without a newline too."""
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

    def _decode(self, line: bytes) -> Row | Unreadable | None:
        """What a line says, counted."""
        self.lines += 1
        event = self.read(line)
        if isinstance(event, Row):
            self.rows += 1
        return event


class RowDecoder(LineDecoder):
    """JSON lines: our own format, zero-operators' rows, and flat rows."""

    __slots__ = ()

    def read(self, line: bytes) -> Row | Unreadable | None:
        event = rows.decode(line, self.rows, self.lines)
        if isinstance(event, Row):
            return event
        return event if len(line) > rows.MAX_LINE or line.strip() else None

    def read_all(self, lines: list[bytes]) -> Iterable[Row | Unreadable]:
        found = rows.decode_all(lines, self.rows, self.lines + 1)
        if found is None:
            return super().read_all(lines)
        self.lines += len(found)
        self.rows += len(found)
        return found
