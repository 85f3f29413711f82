"""A journal as lines, read without trust: never through a link, never waiting, and no more than a journal can have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import contract

MAX_LINE = 1 << 20
"""Bytes. A longer line was not written by a checker."""

MAX_SIZE = 1 << 28
"""Bytes. A journal has some KB, and a few MB after years; what is larger is not taken into memory."""


def opened(path: Path | str) -> BinaryIO:
    """A journal for reading; whoever asks for it closes it.

    Raises:
        FileNotFoundError: there is none yet.
        contract.Unreadable: it is no plain file, or larger than any journal.
        OSError: it cannot be read.
    """
    fd = contract.open_plain(path)
    size = os.fstat(fd).st_size
    if size > MAX_SIZE:
        os.close(fd)
        raise contract.Unreadable(f"{path}: has {size:,} bytes; a journal has at most {MAX_SIZE:,}")
    return open(fd, "rb")


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a journal; one that is too long comes in pieces, which are no entries."""
    return iter(partial(file.readline, MAX_LINE), b"")
