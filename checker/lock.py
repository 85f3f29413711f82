"""One checker acts on a folder at a time: the kernel holds the lock, and the file says who has it and that it lives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import contract
from checker.service.heartbeat import Heartbeat

try:
    import fcntl
except ImportError:  # not a POSIX system: two checkers on one root are then the user's own affair
    fcntl = None  # type: ignore[assignment]


class Held(Exception):
    """Another checker watches this root already."""


@contextmanager
def only_one(root: Path) -> Iterator[Heartbeat]:
    """Makes sure that one checker acts on a root; the kernel lets go of the lock when its holder dies.

    Raises:
        Held: another one has it; the message says who.
    """
    path = root / contract.WATCHER
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, contract.NEW_FILE)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Held(f"{root} is watched already by {contract.last_watcher(root) or 'another checker'}") from None
            except OSError:  # a file system without locks: better one unguarded checker than none
                pass
        heartbeat = Heartbeat(fd, path)
        try:
            yield heartbeat
        finally:
            heartbeat.end()
    finally:
        os.close(fd)
