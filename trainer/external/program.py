"""A running program with everything that it has started. Standard library only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from contract import Process, boot_id, process_started
from trainer.external import guard
from trainer.external.output import Output

_LAST_WORDS_SECONDS = 5.0
"""For what is still in the pipes once nobody is left who could write to them."""


class Program:
    """Started in a session of its own, so that Ctrl-C reaches us alone; nothing of it outlives the `with` block.

    Args:
        command: the program with its arguments.
        environment: with the run's id as its mark.
        spec: the file that the guard removes in our place, should we be killed.

    Raises:
        OSError: there is no such program, or it cannot be executed.
    """

    def __init__(self, command: list[str], environment: dict[str, str], spec: Path) -> None:
        self._run_id = environment[guard.MARK]
        self._guard = _guard(self._run_id, spec)
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - running it is what was asked for
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            self._dismiss_guard()
            raise
        self.pid = self._popen.pid
        self._tell_guard(str(self.pid))
        self.process = Process(
            pid=self.pid, host=socket.gethostname(), boot_id=boot_id(), started=process_started(self.pid)
        )
        self.output = Output()
        for name in ("stdout", "stderr"):
            sink = getattr(getattr(sys, name), "buffer", None)
            self.output.follow(name, cast(BinaryIO, getattr(self._popen, name)), sink)

    def ended(self) -> bool:
        """Whether the program is over. It is not reaped yet, so nobody else can be given its process group."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._popen.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def others(self) -> list[int]:
        """The living processes that the program has started, and those that they have."""
        return [pid for pid in guard.marked(self._run_id) if pid != self.pid]

    def tell(self, signum: int) -> None:
        """Sends a signal to the program and all that it has started."""
        guard.tell(self._run_id, self.pid, signum)

    def finish(self) -> tuple[int, int]:
        """Ends what is left of it.

        Returns:
            The exit code (negative: the signal that ended it), and how many processes it had left behind.
        """
        left = len(self.others())
        guard.sweep(self._run_id, self.pid)
        code = self._popen.wait()
        self.output.join(_LAST_WORDS_SECONDS)
        self._dismiss_guard()
        return code, left

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._popen.returncode is None:
            self.finish()

    def _tell_guard(self, line: str) -> None:
        with suppress(OSError):  # a guard that is gone guards nothing, and stops nobody
            assert self._guard.stdin
            self._guard.stdin.write(f"{line}\n".encode())
            self._guard.stdin.flush()

    def _dismiss_guard(self) -> None:
        self._tell_guard("done")
        self._guard.communicate()


def _guard(run_id: str, spec: Path) -> subprocess.Popen[bytes]:
    script = [sys.executable, "-I", "-S", guard.__file__, run_id, str(spec), str(os.getpid())]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(script, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)  # noqa: S603 - our own


def ending(code: int) -> str:
    """How a program ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
