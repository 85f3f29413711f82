"""The sign of life of a checker: the file whose lock it holds says who it is and when it last looked.

Trainers, other checkers and people read it (`contract.watcher`). It is written in place, for the lock belongs to the
open file; and from the loop that does the work, so that a checker that hangs falls silent.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import contract
from checker.mounts import mount

BEAT_SECONDS = 5.0
"""A sixth of `contract.SILENT`, after which others think us gone."""

SIZE = 512
"""Bytes. Every record is as long, so that none is torn by the length of the last."""


class Heartbeat:
    """The record in a file that is open and locked."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._next = 0.0
        # On a network file system others see what has been sent to the server, and on a local one all that is written.
        self._sync = mount(path).network
        process = contract.this_process()
        self._record: dict[str, Any] = {
            "v": contract.FORMAT,
            "pid": process.pid,
            "host": process.host,
            "boot_id": process.boot_id,
            "started": contract.now(),
        }
        self._write()

    def beat(self, *, at_once: bool = False, **fields: object) -> None:
        """Says that we live and look; at most every five seconds, so it may be called all the time."""
        now = time.monotonic()
        if now < self._next and not at_once:
            return
        self._next = now + BEAT_SECONDS
        self._record |= {**fields, "beat_at": contract.now()}
        with suppress(OSError):  # a full disk: others will think us gone, and we go on
            self._write()

    def end(self) -> None:
        """Says that we leave: nobody has to wait for our silence."""
        self._record["ended"] = contract.now()
        with suppress(OSError):
            self._write()

    def _write(self) -> None:
        data = contract.encode(self._record).ljust(SIZE - 1) + b"\n"
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))
        if self._sync:
            os.fsync(self._fd)
