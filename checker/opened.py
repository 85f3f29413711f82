"""A log opened for reading: never waiting, and never through a link to somebody else's file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from checker.events import Row, Unreadable

FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Opened:
    """A log opened without ever waiting; None when it is no regular file.

    A log may be a link to another disk. It is followed where whoever made it could read that file as well: it must be
    their own, or the link be ours; and what is no row in it is not shown to anybody.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self.linked = False

    def __enter__(self) -> int | None:
        try:
            self.fd = os.open(self.path, FLAGS | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, or a device without a driver
                return None
            if error.errno not in (errno.ELOOP, errno.EMLINK):
                raise
            self._follow()
        return self.fd if stat.S_ISREG(os.fstat(self.fd).st_mode) else None

    def _follow(self) -> None:
        self.linked = True
        self.fd = os.open(self.path, FLAGS)
        owner = os.fstat(self.fd).st_uid
        if os.lstat(self.path).st_uid not in (owner, os.geteuid(), 0):
            os.close(self.fd)
            self.fd = -1
            raise PermissionError(errno.EPERM, "is a link to a file of another user, which is not followed")

    def discreet(self, events: Iterable[Row | Unreadable]) -> Iterator[Row | Unreadable]:
        """`events`; of a line in a file that a link leads to, and that is no row, nobody is told how it begins."""
        for event in events:
            secret = self.linked and isinstance(event, Unreadable)
            yield Unreadable(event.line, "holds no row") if secret else event

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def kind_of(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISDIR, "a folder"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")
