"""Files of a run folder, read without trust: a named pipe would be read for ever, a huge file would fill memory."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

import contract

MAX_SIZE = contract.RECORD_SIZE


def stamp(path: str, limit: int | None = MAX_SIZE) -> contract.Stamp | None:
    """The stamp of a file that can be read; None where there is none.

    Raises:
        contract.Unreadable: it is no regular file, or larger than `limit` bytes.
        OSError: the folder cannot be entered.
    """
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(info.st_mode):
        raise contract.Unreadable(f"{path}: is a symbolic link, which is not followed here")
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
        return contract.read_plain(path)[0]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise contract.Unreadable(f"{path}: cannot be read ({error.strerror or error})") from None


def hashes(checkpoint: Path) -> list[str]:
    """The SHA-256 hashes that stand beside a checkpoint: one, or two while it is being replaced; empty without any.

    Raises:
        contract.Unreadable: the hash file cannot be read.
    """
    text = content(checkpoint.with_name(f"{checkpoint.name}.sha256")) or b""
    return re.findall(r"\b[0-9a-f]{64}\b", text.decode("ascii", "replace"))


def inside(folder: Path, path: object) -> Path | None:
    """Where a file that a record names lies, if that is inside its run folder; None for anything else.

    The folder of the checkpoints may itself be a link, to a larger disk; nothing else leads out.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        return None
    place = os.path.normpath(os.path.join(folder, path))
    homes = (folder, folder / contract.CHECKPOINTS)
    real = os.path.realpath(place)
    within = os.path.relpath(place, folder).split(os.sep)[0] != os.pardir
    return Path(place) if within and any(real.startswith(os.path.realpath(home) + os.sep) for home in homes) else None


def digest(path: Path | None) -> str | None:
    """The SHA-256 of a file; None where there is no regular file that can be read."""
    if path is None:
        return None
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
