"""The bell: is somebody asking this run to stop, through its status file or by a signal? Standard library only."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from types import FrameType
from typing import Any

from contract import Kill, Stamp, StatusFile, Unreadable, decode_object, now, pending_kill, stamp

_RACY_NS = 50_000_000
"""A file changed this shortly before it was read may change again within the same tick of the file system's clock,
which then shows in no stamp (ext4 and NFS tick every 4 to 10 ms): such a file is read again at the next look."""


class Bell:
    """Looks with one `stat` and reads only what changed, so a training loop can ask at every step.

    The status file changes once a second, and for a while after each change it has to be read at every look; then its
    bytes are compared with those that held no request before anything is parsed.
    """

    def __init__(self, status: StatusFile) -> None:
        self.kill: Kill | None = None
        self._status = status
        self._path = str(status.path)
        self._seen: Stamp | None = None
        self._quiet: bytes | None = None
        self._signals = Signals()

    def ask(self) -> Kill | None:
        """The request that this run has to obey, and the same one ever after. SIGTERM and SIGINT ring from now on."""
        if self.kill is None:
            if not self._signals.tried:
                self._signals.install()
            self.kill = self._look()
        return self.kill

    def close(self) -> None:
        self._signals.restore()

    def _look(self) -> Kill | None:
        if self._signals.heard is not None:
            return self._read() or by_signal(self._signals.heard)
        try:
            info = os.stat(self._path)
        except OSError:  # nobody can ask through a file that is not there; the next heartbeat puts it back
            return None
        found = stamp(info)
        if found == self._seen:
            return None
        racy = abs(time.time_ns() - info.st_mtime_ns) < _RACY_NS
        kill = self._read()
        self._seen = None if racy or self._quiet is None else found
        return kill

    def _read(self) -> Kill | None:
        try:
            data = _bytes(self._path)
            if data == self._quiet:
                return None
            self._quiet = None  # until this one is known to hold no request
            kill = pending_kill(decode_object(data, self._path))
        except (Unreadable, OSError):
            return None
        self._quiet = data
        return kill


def _bytes(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def by_signal(signum: int) -> Kill:
    return Kill(
        id=f"signal-{uuid.uuid4().hex[:8]}",
        reason=f"{signal.Signals(signum).name} received",
        requested_by="signal",
        requested_at=now(),
    )


class Signals:
    """SIGTERM and SIGINT as a flag.

    The second signal finds the old handlers back in place and is delivered to them, so a program that hangs, and never
    looks at the flag, can still be interrupted.
    """

    def __init__(self) -> None:
        self.heard: int | None = None
        self._before: dict[int, Any] = {}
        self.tried = False
        self._left = False

    def install(self) -> None:
        if self.tried:
            return
        self.tried = True
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows handlers in the main thread only; the status file still rings
        for signum in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(signum)
            if before is not signal.SIG_IGN and before is not None:  # ignored on purpose (nohup), or not Python's
                self._before[signum] = before
                signal.signal(signum, self._hear)

    def restore(self) -> None:
        """Puts the old handlers back; where that is not the main thread's doing, the next signal finds them so."""
        if threading.current_thread() is not threading.main_thread():
            self._left = True  # Python allows handlers in the main thread only
            return
        for signum, before in self._before.items():
            signal.signal(signum, before)
        self._before = {}

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        passed_on = self._left and signal.getsignal(signum) != self._hear  # by whoever was put on top, and has heard it
        if (self.heard is not None or self._left) and not passed_on:
            self.restore()
            signal.raise_signal(signum)
            return
        if not passed_on:
            self.heard = signum
        chained: Callable[[int, FrameType | None], object] | Any = self._before.get(signum)
        if callable(chained) and chained is not signal.default_int_handler:
            chained(signum, frame)  # a launcher's own handler keeps working
