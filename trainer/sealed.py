"""Files with their SHA-256 beside them: written whole or not at all, and believed only when the two agree.

Standard library only, so that any training script can keep its models this way.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from contract import replace


class Damaged(RuntimeError):
    """A file that is not there or not what was written; the message says which and why."""


def write(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, with its SHA-256 in `<path>.sha256`.

    Until the new file is in place the hash file vouches for both, the new one and the old, so a crash between the
    two writes costs neither.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is then still sound.
    """
    path.parent.mkdir(exist_ok=True)
    line = f"{hashlib.sha256(data).hexdigest()}  {path.name}\n".encode()
    sidecar = beside(path)
    replace(sidecar, line + (sidecar.read_bytes() if sidecar.exists() else b""))
    replace(path, data)
    replace(sidecar, line)


def read(path: Path) -> bytes:
    """What was written to `path`.

    Raises:
        Damaged: the file or its hash is missing, or the file has changed since it was written.
    """
    try:
        data = path.read_bytes()
        hashes = beside(path).read_text("ascii", "replace").split()
    except OSError as error:
        raise Damaged(f"{error.filename}: {error.strerror}") from None
    found = hashlib.sha256(data).hexdigest()
    if found not in hashes:
        raise Damaged(f"{path}: its SHA-256 is {found[:12]}…, not the one in {beside(path).name}: damaged")
    return data


def beside(path: Path) -> Path:
    """Where the hash of `path` stands."""
    return path.with_name(f"{path.name}.sha256")
