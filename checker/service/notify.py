"""What systemd is told: ready, alive, reloading, stopping, and one line about how things stand.

No library is taken. Those in plain Python have had no release for years (sdnotify 2017, sd-notify 2020,
systemd-watchdog 1.0 without reload), and the one that is kept (cysystemd) brings 6 MB of shared objects for one
datagram. More than that: a unit of `Type=notify` whose program says nothing is killed at its start, so this must not
depend on an extra that somebody forgot to install. The protocol is sd_notify(3): lines of `NAME=value` in a datagram.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

START_SECONDS = 60
"""How long one piece of the first round may take; a long start says with each piece that it goes on."""

LOOP_SECONDS = 1.0
"""The loop comes by once a second: a sign that is not due yet is a second late."""

STATUS_SECONDS = 5.0
"""Between two changes of the line that `systemctl status` shows."""


class Notify:
    """The line to the service manager; silent where there is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An address that begins with @ is abstract: it has no file, and a zero byte in its place.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        known = address.startswith(("/", "@")) and hasattr(socket, "AF_UNIX")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if known else None
        if self._socket is not None:
            self._socket.settimeout(0.2)  # its queue may be full for a moment; one that hangs must not hold us up
        self.watchdog = _interval(environ) if known else 0.0
        """Seconds between two signs of life; 0 when nobody waits for them."""
        self._next = self._next_status = 0.0
        self._status = ""
        self.is_ready = False

    def ready(self, status: str) -> None:
        """The start, or a reload, is over. What the manager did not hear is said again by whoever asks `is_ready`."""
        self._status = status
        self.is_ready = self._send("READY=1", f"STATUS={_line(status)}")

    def alive(self) -> None:
        """A piece of work is done. Said from the loop itself, so that a loop that hangs is noticed."""
        now = time.monotonic()
        if self._socket is None or now < self._next:
            return
        self._next = now + (self.watchdog if self.watchdog and self.is_ready else STATUS_SECONDS)
        if not self.is_ready:
            self._send(f"EXTEND_TIMEOUT_USEC={START_SECONDS * 1_000_000}")
        if self.watchdog:
            self._send("WATCHDOG=1")

    def status(self, text: Callable[[], str]) -> None:
        """Says how things stand, when that is due and has changed."""
        now = time.monotonic()
        if self._socket is None or now < self._next_status:
            return
        self._next_status, before = now + STATUS_SECONDS, self._status
        self._status = text()
        if self._status != before:
            self._send(f"STATUS={_line(self._status)}")

    def reloading(self) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", f"STATUS={_line(status)}")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> bool:
        """Whether it was said, or nobody listens."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:  # the manager restarts, perhaps; we work on without it
            return False
        return True


def _interval(environ: Mapping[str, str]) -> float:
    """A second less than half of the time after which the manager thinks us hung; 0 when it does not wait for us."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environ.get("WATCHDOG_USEC", "")
    half = int(text) / 2_000_000 if text.isascii() and text.isdecimal() else 0.0
    return max(half - LOOP_SECONDS, min(half, 0.1))


def _line(text: str) -> str:
    return " ".join(text.split())[:500]
