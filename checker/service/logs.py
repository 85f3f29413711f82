"""The checker's own log: lines for people, or one JSON object per line for programs.

A watcher must not die of its log: when the disk is full or the terminal is gone the lines are lost, and it goes on. A
pipe whose reader has gone ends a watch, as it ends any program, but not one whose output goes to the journal.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TextIO

import contract
from checker.clean import clean
from checker.finding import Severity
from checker.show import line
from checker.terms import Notice

_PRIORITY = {Severity.CRITICAL: 2, Severity.WARNING: 4, Severity.INFO: 6}
"""As syslog counts them; the journal takes `<2>` off the line and shows it in red."""


LONGEST = 4000
"""Characters of a line about the checker itself; a path may have as many."""


_FRAME = ("started", "observed", "stopped")
"""What is said first and last."""


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"


class Log:
    """Where everything goes that a watch without a live table has to say."""

    def __init__(self, form: Format, out: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self._form, self._out = form, out or sys.stdout
        self._journal = is_journal(self._out, environ)

    def tell(self, notices: Iterable[Notice]) -> None:
        """What was noticed about runs."""
        for notice in notices:
            text = self._object(notice) if self._form is Format.JSON else line(notice)
            self._put(text, notice.severity)

    def say(self, event: str, text: str, severity: Severity = Severity.INFO, **fields: object) -> None:
        """What the checker does itself: it starts, it stops, it reads its limits again."""
        if self._form is Format.JSON:
            self._put(_encoded(severity, {"event": event, "text": text, **fields}), severity)
            return
        for part in text.splitlines():
            stamp = "" if event in _FRAME else f"{time.strftime('%H:%M:%S')} "
            self._put(stamp + clean(part, LONGEST), severity)

    @staticmethod
    def _object(notice: Notice) -> str:
        named = {"run": clean(notice.run), "rule": clean(notice.rule)}
        known = {name: value for name, value in named.items() if value}
        return _encoded(notice.severity, {"event": notice.event, **known, "text": clean(notice.text)})

    def _put(self, text: str, severity: Severity) -> None:
        try:
            print(f"<{_PRIORITY[severity]}>{text}" if self._journal else text, file=self._out, flush=True)
        except OSError as error:
            if isinstance(error, BrokenPipeError) and not self._journal:
                raise


def _encoded(severity: Severity, fields: Mapping[str, object]) -> str:
    return contract.encode({"time": contract.now(), "level": str(severity), "pid": os.getpid(), **fields}).decode()


def is_journal(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `out` goes to the journal of systemd, which says so by the device and inode of what it reads."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        info = os.fstat(out.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(info.st_dev), str(info.st_ino))
