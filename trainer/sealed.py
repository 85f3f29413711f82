"""Files with their SHA-256 beside them: written whole or not at all, and believed only when the two agree.

Standard library only, so that any training script can keep its models this way.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from contract import replace

_BLOCK = 1 << 20


class Damaged(RuntimeError):
    """A file that is not there or not what was written; the message says which and why."""


def write(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, with its SHA-256 in `<path>.sha256`.

    Raises:
        OSError: as for `stream`.
    """
    stream(path, lambda file: file.write(data))


def stream(path: Path, fill: Callable[[Any], object]) -> str:
    """Has `fill` write a file that takes the place of `path`, with its SHA-256 in `<path>.sha256`.

    Until the new file is in place the hash file vouches for both, the new one and the old, so a crash between the
    two writes costs neither.

    Args:
        path: where; its folder is created.
        fill: writes to the file that it is given, from begin to end.

    Returns:
        The SHA-256, 64 hex digits.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is then still sound.
    """
    path.parent.mkdir(exist_ok=True)
    with _beside(path) as fresh:
        with fresh.open("wb") as file:
            hashing = _Hashing(file)
            _filled(hashing, fill)
            file.flush()
            os.fsync(file.fileno())
        digest = hashing.digest.hexdigest()
        _put(fresh, path, digest)
    return digest


def _filled(file: _Hashing, fill: Callable[[Any], object]) -> None:
    """Has `fill` write; what the disk has refused is raised as itself, not as what `fill` makes of it.

    torch's writer of archives answers a full disk with a RuntimeError about unexpected positions.
    """
    try:
        fill(file)
    except Exception:
        if file.refused is not None:
            raise file.refused from None
        raise


def link(path: Path, other: Path) -> None:
    """Makes `path` another name of `other`, a sealed file, without a copy where the file system can.

    Raises:
        Damaged: the hash of `other` is missing.
        OSError: as for `stream`.
    """
    with _beside(path) as fresh:
        try:
            os.link(other, fresh)
        except OSError:  # a file system without hard links
            shutil.copyfile(other, fresh)
        _put(fresh, path, hashes(other)[0])


def _put(fresh: Path, path: Path, digest: str) -> None:
    line = f"{digest}  {path.name}\n".encode()
    sidecar = beside(path)
    replace(sidecar, line + (sidecar.read_bytes() if sidecar.exists() else b""))
    os.replace(fresh, path)
    replace(sidecar, line)  # syncs the folder, and with it the file's new name


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name in the folder of `path` for a file that is not finished; what is left there in the end is removed."""
    name = tempfile.mktemp(prefix=f".{path.name}.", dir=path.parent)  # noqa: S306 - os.link wants no file there
    try:
        yield Path(name)
    finally:
        with suppress(OSError):
            os.unlink(name)


class _Hashing:
    """A file that is hashed while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self.refused: OSError | None = None
        """What the disk has answered to a write that failed."""
        self._file = file

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.refused = error
            raise

    def flush(self) -> None:
        self._file.flush()


def read(path: Path) -> bytes:
    """What was written to `path`.

    Raises:
        Damaged: the file or its hash is missing, or the file has changed since it was written.
    """
    with opened(path) as (file, _):
        return file.read()


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """The file at `path` and its SHA-256, which is checked; what replaces it meanwhile is another file.

    Raises:
        Damaged: as for `read`.
    """
    try:
        known = hashes(path)
        file = path.open("rb")
    except OSError as error:
        raise Damaged(f"{error.filename}: {error.strerror}") from None
    with file:
        digest = hashlib.sha256()
        while block := file.read(_BLOCK):
            digest.update(block)
        found = digest.hexdigest()
        if found not in known:
            raise Damaged(f"{path}: its SHA-256 is {found[:12]}…, not the one in {beside(path).name}: damaged")
        file.seek(0)
        yield file, found


def hashes(path: Path) -> list[str]:
    """The SHA-256 that is noted beside `path`; while it is being replaced, also that of the file before.

    Raises:
        OSError: there is none.
    """
    return beside(path).read_text("ascii", "replace").split()[::2]


def beside(path: Path) -> Path:
    """Where the hash of `path` stands."""
    return path.with_name(f"{path.name}.sha256")
