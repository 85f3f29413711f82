"""What is kept of a channel in the watched folder: how far it has told the feed, and how it fares. No secret of it.

Written after a message was taken: whoever is killed in between sends that one again, with the same id, and loses none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import contract
from checker.mask import plain

FOLDER = ".checker.alarms"
"""Below the watched folder."""

_SUFFIX, _LOCK = ".json", ".lock"


class Health(StrEnum):
    """How a channel fares."""

    NEW = "new"
    """Nothing was sent through it yet."""
    WORKS = "works"
    FAILS = "fails"


@dataclass
class Record:
    """One channel's."""

    channel: str
    cursor: int
    """Every line of the feed up to this place has been seen to."""
    ahead: dict[str, int] = field(default_factory=dict)
    """Of these runs, every line up to a later place."""
    sent: list[float] = field(default_factory=list)
    """When messages were sent in the last minute."""
    health: Health = Health.NEW
    since: float = 0.0
    why: str = ""
    """Why the last try failed."""
    waiting: int = 0
    """Runs about which something is still to be told."""

    def told(self, run: str, seq: int) -> bool:
        return seq <= self.cursor or seq <= self.ahead.get(run, 0)

    def move(self, cursor: int) -> None:
        """Takes the place up to which everything is told, and forgets what that covers."""
        self.cursor = max(self.cursor, cursor)
        self.ahead = {run: seq for run, seq in self.ahead.items() if seq > self.cursor}

    def document(self) -> dict[str, Any]:
        return {"v": contract.FORMAT, **vars(self)}

    @classmethod
    def parse(cls, document: Mapping[str, Any], channel: str) -> Self | None:
        """The record in a file; None when it has none. What is not of its kind is as if it were not there."""
        cursor = _seq(document.get("cursor"))
        if cursor is None:
            return None
        ahead, sent = document.get("ahead"), document.get("sent")
        known = document.get("health")
        return cls(
            channel,
            cursor,
            {run: seq for run, seq in ahead.items() if _seq(seq)} if isinstance(ahead, dict) else {},
            [float(at) for at in sent if type(at) in (int, float)] if isinstance(sent, list) else [],
            Health(known) if known in list(Health) else Health.NEW,
            contract.number_in(document.get("since")) or 0.0,
            plain(document.get("why", "")),
            _seq(document.get("waiting")) or 0,
        )


def _seq(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 53 else None


class Kept:
    """The record of a channel as a file, for the one process that holds it."""

    def __init__(self, root: Path, channel: str) -> None:
        self.path = root / FOLDER / f"{channel}{_SUFFIX}"
        self._lock: int | None = None

    def make_folder(self) -> None:
        """Makes the folder of all records, if there is none.

        Raises:
            OSError: it cannot be made, or something else has its name.
        """
        folder = self.path.parent
        with suppress(FileExistsError):
            os.mkdir(folder)
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is in the way of the records of alarms", str(folder))

    def hold(self) -> bool:
        """Whether this process alone sends through the channel from now on; the kernel lets go when it dies.

        Raises:
            OSError: the folder cannot be written, or is none.
        """
        self.make_folder()
        fd = os.open(self.path.with_suffix(_LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:  # a file system without locks: better an alarm twice than none
            pass
        self._lock = fd
        return True

    def read(self) -> Record | None:
        return read(self.path)

    def write(self, record: Record) -> None:
        """Puts the record on disk.

        Raises:
            OSError: it cannot be.
        """
        contract.replace(self.path, contract.encode(record.document()))

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def read(path: Path) -> Record | None:
    """The record in a file; None when there is none that can be read."""
    try:
        data, _ = contract.read_plain(path, 1 << 20)
        return Record.parse(contract.decode_object(data, str(path)), path.stem)
    except (OSError, contract.Unreadable):
        return None


def served(root: Path) -> Iterator[Record]:
    """The channels that somebody serves now."""
    with suppress(OSError):
        for path in sorted((root / FOLDER).glob(f"*{_SUFFIX}")):
            record = read(path)
            if record is not None and _held(path.with_suffix(_LOCK)):
                yield record


def _held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
