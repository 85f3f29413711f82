"""The feed, from a place on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checker.feed.feed import opened, parsed

_BLOCK = 1 << 16
"""Bytes per read. Whoever asks has mostly seen all but the last few lines, so the place is looked for from the end."""


class Reader:
    """The lines after place `since`, each once, also when the file is replaced by a new one meanwhile."""

    def __init__(self, path: Path, since: int = 0) -> None:
        self.path, self.since = path, since
        self._file: tuple[int, int] | None = None
        self._offset = 0

    def last(self) -> int:
        """The last place in the feed; 0 when it has none.

        Raises:
            OSError: there is no feed.
        """
        fd = opened(self.path)
        try:
            end = os.fstat(fd).st_size
            while end > 0:
                start = max(0, end - _BLOCK)
                found = [line["seq"] for _, line in _lines(os.pread(fd, _BLOCK, start), whole=not start)]
                if found:
                    return int(found[-1])
                end = start + _BLOCK // 2 if start else 0  # overlapping: a line may lie across the border
            return 0
        finally:
            os.close(fd)

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines that have come since the last call.

        Raises:
            OSError: there is no feed.
        """
        fd = opened(self.path)
        try:
            info = os.fstat(fd)
            if self._file != (info.st_dev, info.st_ino) or info.st_size < self._offset:
                self._file, self._offset = (info.st_dev, info.st_ino), self._place(fd, info.st_size)
            rest = b""
            while data := os.pread(fd, _BLOCK, self._offset + len(rest)):
                whole, newline, rest = (rest + data).rpartition(b"\n")
                self._offset += len(whole) + len(newline)
                for line in whole.split(b"\n"):
                    found = parsed(line)
                    if found is not None and found["seq"] > self.since:
                        self.since = found["seq"]
                        yield found
        finally:
            os.close(fd)

    def _place(self, fd: int, size: int) -> int:
        """An offset before which there is nothing after `since`."""
        start = size
        while start > 0:
            start = max(0, start - _BLOCK)
            for offset, line in _lines(os.pread(fd, _BLOCK, start), whole=not start):
                if line["seq"] <= self.since:
                    return start + offset
                break
        return 0


def _lines(data: bytes, *, whole: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines in a part of a feed, with their offsets in it; the first counts only when it is `whole`."""
    offset = 0
    for number, text in enumerate(data.splitlines(keepends=True)):
        found = parsed(text) if text.endswith(b"\n") and (number or whole) else None
        if found is not None:
            yield offset, found
        offset += len(text)
