"""What a program prints: passed on as it comes, and its end kept in memory. Standard library only."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import BinaryIO

KEPT = 1 << 20
"""Bytes of the output that are kept: thousands of lines, and nothing beside a training."""

_SHOWN_LINES, _SHOWN_CHARACTERS = 5, 1000
"""Of the output that are worth a place in the status file: a traceback's last frame and its message."""

_BLOCK = 1 << 16
"""A pipe's capacity on Linux."""


class Output:
    """Reads pipes in threads of their own, so that a program never waits for us, and keeps the last `KEPT` bytes."""

    def __init__(self, kept: int = KEPT) -> None:
        self.size = 0
        """Bytes that were printed in all."""
        self.grew_at = time.time()
        self._kept = kept
        self._tail = bytearray()
        self._last: dict[str, bytes] = {}
        self._turn = threading.Lock()
        self._threads: list[threading.Thread] = []

    def follow(self, name: str, pipe: BinaryIO, sink: BinaryIO | None) -> None:
        """Passes the pipe called `name` (stdout, stderr) on until it ends; a sink that is gone stops nothing."""
        thread = threading.Thread(target=self._pump, args=(name, pipe, sink), name="output", daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, seconds: float) -> None:
        """Waits for the last words; somebody else may hold the pipes open, so not for ever."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def tail(self) -> bytes:
        """The end of the output, with a line before it that says what was not kept."""
        with self._turn:
            kept = bytes(self._tail[-self._kept :])
            lost = self.size - len(kept)
        return (f"… {lost:,} bytes before this were not kept\n".encode() if lost else b"") + kept

    def last_words(self) -> str:
        """The last lines in one, for an error message; empty where nothing was printed.

        Those of stderr where there are any: what a program says on its way out must not drown in its other output.
        """
        text = (self._last.get("stderr") or self._last.get("stdout") or b"").decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-_SHOWN_LINES:])[-_SHOWN_CHARACTERS:]

    def _pump(self, name: str, pipe: BinaryIO, sink: BinaryIO | None) -> None:
        with pipe:
            while block := os.read(pipe.fileno(), _BLOCK):
                self._keep(name, block)
                try:
                    if sink is not None:
                        sink.write(block)
                        sink.flush()
                except (OSError, ValueError):
                    sink = None

    def _keep(self, name: str, block: bytes) -> None:
        with self._turn:
            self._last[name] = (self._last.get(name, b"") + block)[-4 * _SHOWN_CHARACTERS :]
            self.size += len(block)
            self.grew_at = time.time()
            self._tail += block
            if len(self._tail) > 2 * self._kept:  # so that most blocks move nothing
                del self._tail[: -self._kept]


def say(text: str) -> None:
    """Prints a line of our own. Where nobody listens any more, the training goes on all the same."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for good: what the old one still holds fails at every flush
