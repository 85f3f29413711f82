"""From a file to its records, one after another: where each begins and ends, and what is no record at all.

Lines and records are cut as Python's own `json` and `csv` would: every place that is found can be jumped to later, and
what stands there means the same.
"""

from __future__ import annotations

import csv
import hashlib
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from trainer.data.stored import BOM

LONGEST = 1 << 28
"""Bytes of a line that are read at all: a file without line breaks must not fill the memory."""
_TOO_LONG = f"is longer than {LONGEST >> 20} MiB"
_LONGEST_FIELD = 1 << 24
"""Of a CSV file: so much is searched for the end of a quote."""
_SAID = {
    "unexpected end of data": "opens a quote that is never closed",
    "expected after": "has text behind a closing quote",
    "new-line character": "has a carriage return outside of quotes",
    "field larger than": f"has a field of more than {_LONGEST_FIELD >> 20} MiB, or opens a quote that is never closed",
}
"""What csv says, in words about the record."""

csv.field_size_limit(_LONGEST_FIELD)  # the usual limit, 128 KiB, is less than a long document; it holds for the process


class Malformed(ValueError):
    """A record that cannot be used, and why."""


class Found(NamedTuple):
    """A record, or what stands in the place of one."""

    offset: int
    length: int
    crc: int
    """CRC-32 of its bytes, by which a change is noticed."""
    line: int
    """The number of its first line, from 1."""
    record: Any
    """A JSON object or the fields of a CSV row; None for a blank line."""
    fault: str = ""
    """Why it is no record."""


class Lines:
    """The lines of a file, from behind a mark at its begin. Each is hashed once, also when it is read again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self._hashed = file, hashlib.sha256(), 0
        self.offset = self.number = self.crc = 0
        if file.read(len(BOM)) == BOM:
            self._digest.update(BOM)
            self.offset = self._hashed = len(BOM)
        file.seek(self.offset)

    @property
    def sha256(self) -> str:
        """Of everything up to the farthest line that was read."""
        return self._digest.hexdigest()

    def read(self) -> bytes:
        """The next line with its break; of one that is too long only the begin; nothing at the end of the file."""
        line = self._file.readline(LONGEST)
        self._passed(line)
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while more := self._file.readline(1 << 20):
                self._passed(more)
                if more.endswith(b"\n"):
                    break
        self.number += bool(line)
        return line

    def begin_record(self) -> None:
        """From here on the checksum is another record's."""
        self.crc = 0

    def back(self, offset: int, number: int) -> None:
        """Goes back to behind line `number`, which ends at `offset`."""
        self._file.seek(offset)
        self.offset, self.number = offset, number

    def _passed(self, line: bytes) -> None:
        end = self.offset + len(line)
        if end > self._hashed:
            self._digest.update(line[self._hashed - self.offset :] if self._hashed > self.offset else line)
            self._hashed = end
        self.crc = zlib.crc32(line, self.crc)
        self.offset = end


def json_records(lines: Lines) -> Iterator[Found]:
    """The lines of a JSONL file, not yet parsed: `record` is the line's bytes."""
    while True:
        begin = lines.offset
        lines.begin_record()
        line = lines.read()
        if not line:
            return
        length = lines.offset - begin
        fault = "" if length <= LONGEST else _TOO_LONG
        yield Found(begin, length, lines.crc, lines.number, None if not line.strip() else line, fault)


def csv_records(lines: Lines, delimiter: str) -> Iterator[Found]:
    """The rows of a CSV file, its header included. Behind a row that is none the next line is tried."""
    text = _Decoded(lines)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        begin, number = lines.offset, lines.number
        lines.begin_record()
        text.begin_record()
        fault, row = "", list[str]()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = _said(str(error))
            lines.back(text.first_end, number + 1)
            reader = csv.reader(text, delimiter=delimiter, strict=True)
        length = lines.offset - begin
        fault = fault or text.fault or ("" if length <= LONGEST else _TOO_LONG)
        yield Found(begin, length, lines.crc, number + 1, None if not row and not fault else row, fault)


class _Decoded:
    """The lines as text, for csv; remembers what it must not raise, since that would end csv's reader."""

    def __init__(self, lines: Lines) -> None:
        self.lines, self.fault, self.first_end = lines, "", 0

    def begin_record(self) -> None:
        self.fault, self.first_end = "", 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.lines.read()
        if not line:
            raise StopIteration
        self.first_end = self.first_end or self.lines.offset
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.fault = bad_utf8(error)
            return line.decode(errors="replace")


def csv_row(content: bytes, delimiter: str) -> list[str]:
    """The fields of one row.

    Raises:
        Malformed: it is none.
    """
    try:
        return next(csv.reader([content.decode()], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise Malformed(_said(str(error))) from None


def bad_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8 (byte {error.start + 1} of the line is 0x{error.object[error.start]:02x})"


def _said(error: str) -> str:
    return next((said for known, said in _SAID.items() if known in error), error)
