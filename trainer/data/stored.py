"""Numbers and bytes that stay on the disk: the system brings in what is looked at, and nothing else takes room."""

from __future__ import annotations

import hashlib
import mmap
import os
import warnings
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer import spec

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
BOM = b"\xef\xbb\xbf"
"""UTF-8's mark at the begin of a file, which is no part of what it says."""
_BLOCK = 1 << 22


class Stored:
    """A file of numbers as a tensor that is not in memory; another process opens it anew, it is never sent there."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        self.path, self.dtype = path, dtype
        self.tensor = mapped(path, dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stored, (self.path, self.dtype)


def mapped(path: Path, dtype: torch.dtype) -> Tensor:
    """A file as a tensor that must not be written to.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return torch.empty(0, dtype=dtype)
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # shared: takes no memory, whatever its size
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(view, dtype=dtype)


def checked(path: str, where: str) -> Path:
    """A data file that can be read.

    Args:
        path: as the spec gives it: absolute, from the current folder, or from the user's home (~).
        where: the key of the spec that names it.

    Raises:
        SpecError: there is none, it is empty, or it is packed.
    """
    found, named = Path(path).expanduser(), f"{where} = {path!r}"
    try:
        with found.open("rb") as file:
            begin = file.read(8)
    except FileNotFoundError:
        raise spec.SpecError(f"{named}: there is no such file (looked from {Path.cwd()})") from None
    except IsADirectoryError:
        raise spec.SpecError(f"{named}: is a folder; name a file in it") from None
    except OSError as error:
        raise spec.SpecError(f"{named}: cannot be read ({error.strerror})") from None
    if not begin.removeprefix(BOM):
        raise spec.SpecError(f"{named}: is empty")
    for magic, kind in _PACKED.items():
        if begin.startswith(magic):
            raise spec.SpecError(
                f"{named}: is packed with {kind}, and places in it cannot be jumped to; unpack it first"
            )
    if begin.startswith(_UTF16):
        raise spec.SpecError(f"{named}: is text in UTF-16; save it as UTF-8")
    return found.resolve()


def identity(path: Path) -> dict[str, Any]:
    """What changes when the content of a file does, as far as can be told without reading it."""
    info = path.stat()
    return {"path": str(path), "bytes": info.st_size, "mtime_ns": info.st_mtime_ns, "inode": info.st_ino}


def sha256(fd: int, size: int) -> str:
    """Of the first `size` bytes of an open file."""
    digest, place = hashlib.sha256(), 0
    while place < size and (block := os.pread(fd, min(_BLOCK, size - place), place)):
        digest.update(block)
        place += len(block)
    return digest.hexdigest()


def opened(path: Path, owner: object) -> int:
    """A file to read from, for as long as its owner lives."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    weakref.finalize(owner, os.close, fd)
    return fd


class Unchanged:
    """Watches over a mapped file: to look at what was cut off ends a process, and other content is other data."""

    def __init__(self, path: Path, size: int, digest: str) -> None:
        self.path, self.size, self.digest = path, size, digest
        self._fd = opened(path, self)
        self._stamp = self._now()

    def __reduce__(self) -> tuple[Any, ...]:
        return Unchanged, (self.path, self.size, self.digest)

    def read(self, begin: int, end: int) -> bytes:
        """The bytes from one place up to another."""
        return os.pread(self._fd, end - begin, begin)

    def check(self) -> None:
        """Reads the file again when its time of change is another: a mere touch, or more at the end, does no harm.

        Raises:
            RuntimeError: it holds other content now.
        """
        stamp = self._now()
        if stamp == self._stamp:
            return
        if stamp[0] < self.size:
            raise RuntimeError(f"{self.path}: has {stamp[0]} bytes now, and had {self.size} when the run began")
        if sha256(self._fd, self.size) != self.digest:
            raise RuntimeError(f"{self.path}: its content has changed since the run began")
        self._stamp = stamp

    def _now(self) -> tuple[int, int]:
        info = os.fstat(self._fd)
        return info.st_size, info.st_mtime_ns
