"""Files of a run folder, read without trust: a named pipe would be read for ever, a huge file would fill memory."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

import contract

MAX_SIZE = 1 << 24
"""Bytes of a record. It has a few KB; a larger file is not read."""


def stamp(path: str, limit: int | None = MAX_SIZE) -> contract.Stamp | None:
    """The stamp of a file that can be read; None where there is none.

    Raises:
        contract.Unreadable: it is no regular file, or larger than `limit` bytes.
        OSError: the folder cannot be entered.
    """
    try:
        info = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(info.st_mode):
        raise contract.Unreadable(f"{path}: is no regular file; move it away")
    if limit is not None and info.st_size > limit:
        raise contract.Unreadable(f"{path}: has {info.st_size:,} bytes, a record has at most {limit:,}")
    return contract.stamp(info)


def content(path: Path) -> bytes | None:
    """What a record holds; None where there is no such file.

    Raises:
        contract.Unreadable: it cannot be read, and why.
    """
    try:
        return path.read_bytes() if stamp(str(path)) else None
    except OSError as error:
        raise contract.Unreadable(f"{path}: cannot be read ({error.strerror or error})") from None


def hashes(checkpoint: Path) -> list[str]:
    """The SHA-256 hashes that stand beside a checkpoint: one, or two while it is being replaced; empty without any.

    Raises:
        contract.Unreadable: the hash file cannot be read.
    """
    text = content(checkpoint.with_name(f"{checkpoint.name}.sha256")) or b""
    return re.findall(r"\b[0-9a-f]{64}\b", text.decode("ascii", "replace"))


def digest(path: Path) -> str | None:
    """The SHA-256 of a file; None where there is no regular file that can be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
