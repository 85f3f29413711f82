"""A program that nobody here wrote, started or found running: seen from outside, and told to stop by signals.

Whoever follows it may die; the program goes on, which is why its output goes straight into a file. Standard library
only.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from contract import NEW_FILE, Process, boot_id, process_started
from trainer.errors import SpecError
from trainer.external import guard

_SHOWN = 1000
"""Bytes of the last output that go into an error message."""

_BLOCK = 1 << 16


class Printed:
    """A file that a program prints to, passed on to our own output as it grows."""

    def __init__(self, path: Path, sink: BinaryIO | None) -> None:
        self.path, self._sink = path, sink
        self._began = time.time()
        self._at = path.stat().st_size if path.exists() else 0
        """What an earlier run has printed is not shown again."""

    @property
    def grew_at(self) -> float:
        """When it last grew, in seconds of the wall clock; passes on what is new."""
        self.pass_on()
        with suppress(OSError):
            return max(self._began, self.path.stat().st_mtime)
        return self._began

    def pass_on(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                while block := file.read(_BLOCK):
                    self._at += len(block)
                    if self._sink is not None:
                        self._sink.write(block)
                        self._sink.flush()
        except FileNotFoundError:
            return
        except (OSError, ValueError):  # nobody listens any more
            self._sink = None

    def last_words(self) -> str:
        """The last lines in one; empty where nothing was printed."""
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _SHOWN))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
            return " | ".join(lines[-5:])
        return ""


class Started:
    """A program that we start, in a session of its own, so that Ctrl-C reaches us alone.

    Args:
        command: the program with its arguments.
        output: the file that it prints to; what is there stays.
        run_id: marks it and everything that it starts.
        stop_signal: what it is told to stop by.

    Raises:
        OSError, ValueError: it cannot be started.
    """

    def __init__(self, command: list[str], output: Path, run_id: str, stop_signal: int) -> None:
        self._run_id, self._stop_signal = run_id, stop_signal
        self.output = Printed(output, getattr(sys.stdout, "buffer", None))
        fd = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, NEW_FILE)
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - running it is what was asked for
                command,
                env={"PYTHONUNBUFFERED": "1", **os.environ, guard.MARK: run_id},
                stdin=subprocess.DEVNULL,
                stdout=fd,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(fd)
        self.process = _named(self._popen.pid)

    def ended(self) -> bool:
        return self._popen.poll() is not None

    def others(self) -> list[int]:
        """The living processes that it has started, and those that they have."""
        return [pid for pid in guard.marked(self._run_id) if pid != self.process.pid]

    def tell(self, signum: int) -> None:
        """Passes a signal on to it and all that it has started."""
        guard.tell(self._run_id, self.process.pid, self._stop_signal if signum == signal.SIGTERM else signum)

    def end(self, *, clear: bool) -> int:
        """Its exit code (negative: the signal that ended it), once it has ended.

        Args:
            clear: what it has left behind is ended, for it was to stop.
        """
        code = self._popen.wait()
        if clear:
            guard.sweep(self._run_id, 0)
        self.output.pass_on()
        return code


class Adopted:
    """A program that runs already.

    Raises:
        SpecError: no such process of ours runs.
    """

    def __init__(self, pid: int, output: Path, stop_signal: int) -> None:
        self._stop_signal = stop_signal
        self.output = Printed(output, None)
        self._handle = -1
        if pid <= 1 or pid == os.getpid() or process_started(pid) is None:
            raise SpecError(f"--pid {pid}: no process that could be followed")
        try:
            os.kill(pid, 0)
            if hasattr(os, "pidfd_open"):
                self._handle = os.pidfd_open(pid)
        except ProcessLookupError:
            raise SpecError(f"--pid {pid}: there is no such process") from None
        except PermissionError:
            raise SpecError(f"--pid {pid}: belongs to another user, so it could not be stopped") from None
        self.process = _named(pid)

    def ended(self) -> bool:
        if self._handle >= 0:
            return bool(select.select([self._handle], [], [], 0)[0])
        return process_started(self.process.pid) != self.process.started

    def others(self) -> list[int]:
        """Nobody knows what it has started."""
        return []

    def tell(self, signum: int) -> None:
        signum = self._stop_signal if signum == signal.SIGTERM else signum
        with suppress(OSError):
            if self._handle >= 0 and hasattr(signal, "pidfd_send_signal"):
                signal.pidfd_send_signal(self._handle, signum)
            elif not self.ended():
                os.kill(self.process.pid, signum)

    def end(self, *, clear: bool) -> int | None:  # noqa: ARG002 - what it has started is not known
        """None: only its parent hears how it ended."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        return None


def _named(pid: int) -> Process:
    return Process(pid=pid, host=socket.gethostname(), boot_id=boot_id(), started=process_started(pid))
