"""What takes long to find out about a data file, kept in the user's cache folder: never beside the user's data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes may do the same work, and one's result is taken
    fcntl = None  # type: ignore[assignment]

_SIZES = "sizes.json"
_UNUSED_DAYS = 60
"""What nobody has asked for in this time is thrown away."""
_temporary: list[tempfile.TemporaryDirectory[str]] = []
"""Stand-ins for a cache folder that cannot be written; they go with the process."""


def kept(name: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """A folder with the files that `make` leaves in one, made when they are asked for the first time.

    Ranks that ask at the same time wait for the one that makes it. Where the cache cannot be written a temporary folder
    does, for as long as this process lives.

    Args:
        name: what they are, in a word.
        key: all that they follow from, as a JSON document.
        make: fills an empty folder; what it raises, except OSError, is the caller's.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    folder = _root() / f"{name}-{digest}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder.with_suffix(".lock")):
            if not _whole(folder):
                _fill(folder, make)
            with suppress(OSError):
                os.utime(folder)
    except OSError:
        if _whole(folder):  # made by another user, or before the disk was full
            return folder
        temporary = tempfile.TemporaryDirectory(prefix="training-checker-")
        _temporary.append(temporary)
        make(Path(temporary.name))
        return Path(temporary.name)
    return folder


def found(name: str, key: Mapping[str, Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A JSON document, kept in the same way."""

    def write(folder: Path) -> None:
        (folder / "found.json").write_text(json.dumps(find()), "utf-8")

    return dict(json.loads((kept(name, key, write) / "found.json").read_text("utf-8")))


def _root() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if given.startswith("/") else Path.home() / ".cache") / "training-checker"


def _whole(folder: Path) -> bool:
    """Whether all files are there and as long as they were: a disk may have been full, or a machine lost its power."""
    try:
        sizes = json.loads((folder / _SIZES).read_bytes())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    _forget_old(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        make(work)
        files = sorted(work.iterdir())
        (work / _SIZES).write_text(json.dumps({file.name: file.stat().st_size for file in files}), "utf-8")
        for file in (*files, work / _SIZES):
            _to_disk(file)
        os.rename(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _to_disk(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _forget_old(root: Path) -> None:
    oldest = time.time() - _UNUSED_DAYS * 86_400
    for entry in root.iterdir():
        with suppress(OSError):
            if entry.stat().st_mtime < oldest:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock file; the kernel drops it when its holder dies."""
    if fcntl is None:
        yield
        return
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
