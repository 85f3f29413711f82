"""The process of alarms beside a watch: started with it, told when it leaves, started again when it fails."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import checker
from checker.alarms import record
from checker.alarms.channels import ENVIRON, Channel
from checker.alarms.fares import Fares, Said
from checker.alarms.notifier import begin
from checker.alarms.record import FOLDER
from checker.clean import clean
from checker.finding import Severity
from checker.terms import Complaint

READY = b"ready"
"""What it says when all channels are known."""

BYE = b"bye"
"""What it is told by a watch that ends in order; the end of the line without it means that the watch is gone."""

START_SECONDS = 60.0
"""For the library to load, from a slow disk perhaps."""

LOOK = 1.0
"""Seconds between two looks at it; the loop comes by a thousand times as often."""

AGAIN = (10.0, 300.0)
"""First and longest pause before it is started again."""

_NOT_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What systemd tells the watch alone."""


class Beside:
    """The process, from start to farewell; to be used in a `with` statement.

    Args:
        root: the watched folder.
        channels: where alarms go.
        limits: the file that `--limits` named.
    """

    def __init__(self, root: Path, channels: Sequence[Channel], limits: Path | None = None) -> None:
        self._root, self._channels, self._limits = root, channels, limits
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._fares = Fares()
        self._next_look = self._again_at = 0.0
        self._pause = AGAIN[0]

    def __enter__(self) -> Self:
        """Starts it, and waits until it knows all channels.

        Raises:
            Complaint: it does not: the extra is missing, or a channel is none.
        """
        try:
            begin(self._root, self._channels)
            self._start()
        except OSError as error:
            raise Complaint(f"alarms cannot be told from {self._root}: {error.strerror or error}") from None
        assert self._process is not None
        assert self._process.stdout is not None
        heard, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        if not heard or not self._process.stdout.readline().startswith(READY):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
            self._process.kill()
            self._process.wait()
            raise Complaint(self._last_words() or "alarms cannot be told: their process does not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Takes leave. It may go on for seconds, to tell what has just happened; nobody waits for it."""
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                if kind is None:
                    process.stdin.write(BYE)
                process.stdin.close()

    def look(self) -> list[Said]:
        """What is new about channels, and about the process itself."""
        now = time.monotonic()
        if now < self._next_look:
            return []
        self._next_look = now + LOOK
        said = [*self._revived(now)]
        paths = (self._root / FOLDER / f"{channel.name}.json" for channel in self._channels)
        return said + self._fares.look(found for path in paths if (found := record.read(path)) is not None)

    def reload(self) -> None:
        """What is worth an alarm may have changed."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGHUP)

    def _revived(self, now: float) -> Iterator[Said]:
        """Starts it again where it has ended."""
        if self._process is not None and self._process.poll() is not None:
            code, why = self._process.returncode, self._last_words()
            self._process, self._again_at = None, now + self._pause
            told = f"the process of alarms has ended (exit code {code}{f': {why}' if why else ''})"
            yield f"{told}; started again in {self._pause:g} s", Severity.WARNING
            self._pause = min(2 * self._pause, AGAIN[1])
        elif self._process is None and now >= self._again_at:
            try:
                self._start()
            except OSError as error:
                self._again_at = now + self._pause
                yield f"the process of alarms cannot be started ({error.strerror or error})", Severity.WARNING

    def _start(self) -> None:
        for known in (self._errors, *((self._process.stdin, self._process.stdout) if self._process else ())):
            if known is not None:
                known.close()
        home = os.path.dirname(os.path.dirname(os.path.abspath(checker.__file__)))
        environ = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
        environ["PYTHONPATH"] = os.pathsep.join(part for part in (home, environ.get("PYTHONPATH", "")) if part)
        environ[ENVIRON] = "\n".join(channel.url for channel in self._channels)  # a command line can be read by all
        command = [sys.executable, "-P", "-m", "checker", "notify", str(self._root), "--beside"]
        command += ["--limits", str(self._limits.resolve())] if self._limits else []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the next one is opened, or with us
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            command,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for the watch, which will say that it leaves
        )

    def _last_words(self) -> str:
        """The last line that it wrote to standard error."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read(1 << 16).decode(errors="replace").splitlines()
        return clean(lines[-1].removeprefix("checker: ")) if lines else ""
