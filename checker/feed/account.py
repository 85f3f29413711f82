"""What the journal of one run says to somebody who waits: what is new, what is open, what was done, what has ended."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from checker.enforce import Did
from checker.feed import lines
from checker.finding import Severity
from checker.journal import Entry
from checker.rows import seconds

_BLOCK = 1 << 18

Attempt = tuple[str | None, float | None]
"""One process' attempt at a run: its run id, and when it had started."""


class NoSuchPlace(ValueError):
    """A cursor that this journal never gave."""


def attempt_of(document: Mapping[str, object]) -> Attempt:
    """The attempt that a status document or a journaled look is about."""
    run_id, started = document.get("run_id"), document.get("started_at")
    return (run_id if isinstance(run_id, str) else None), seconds(started)


@dataclass
class Account:
    """The journal of one run, read as it grows. A place in it is the offset of the byte after a line."""

    path: Path
    since: int | None = None
    """Alerts after this place are new; None: those that are open now, and all that come."""
    offset: int = 0
    fresh: list[Entry] = field(default_factory=list)
    """Alerts that nobody was told of."""
    attempt: Attempt = (None, None)
    """The one that goes on now."""
    alerts: dict[str, Entry] = field(default_factory=dict)
    """All alerts about the metrics file as it is now, by id."""
    acts: list[Entry] = field(default_factory=list)
    ends: dict[Attempt, Entry] = field(default_factory=dict)
    """The last look at each attempt that was over."""
    _last: dict[str, Entry] = field(default_factory=dict)
    """Alerts that are not said to be over, by rule."""
    _file: tuple[int, int] | None = None
    _caught_up: bool = False
    """What was there at the first look has been read."""

    def check(self) -> None:
        """Whether `since` is a place in this journal.

        Raises:
            NoSuchPlace: it is not.
        """
        if not self.since:
            return
        size = 0
        if self.path.is_file():
            with self.path.open("rb") as file:
                file.seek(self.since - 1)
                if file.read(1) == b"\n":
                    return
                size = file.seek(0, os.SEEK_END)
        raise NoSuchPlace(
            f"{self.since} is no place in {self.path} ({size} bytes): was the journal deleted? --since 0 begins anew"
        )

    @property
    def open(self) -> list[Entry]:
        """Alerts that are not over."""
        return [entry for entry in self._last.values() if not self._earlier(entry)]

    def _earlier(self, entry: Entry) -> bool:
        """Whether an alert is about an earlier attempt: the next begins anew, and nobody says of the old that it ends.

        The ids alone do not tell: the rows may go by other ids than the status file.
        """
        run_id, started = self.attempt
        if None in (run_id, entry.get("run_id")) or entry["run_id"] == run_id:
            return False
        return started is None or (seconds(entry.get("at")) or 0.0) < started

    def read(self, attempt: Attempt) -> None:
        """Takes in what has been journaled since the last call; `attempt` is the one that goes on now."""
        self.attempt = attempt
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._caught_up = True
            return
        try:
            info = os.fstat(fd)
            if self._file not in (None, (info.st_dev, info.st_ino)) or info.st_size < self.offset:
                self.offset = 0  # replaced while we waited: everything in it is new
                self._forget()
            self._file = info.st_dev, info.st_ino
            rest = b""
            while stat.S_ISREG(info.st_mode) and (data := os.pread(fd, _BLOCK, self.offset + len(rest))):
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    self.offset += len(line) + 1
                    self._take(line)
        finally:
            os.close(fd)
        if not self._caught_up and self.since is None:
            self.fresh = self.open
        self._caught_up = True

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return
        kind = entry.get("kind") if isinstance(entry, dict) else None
        rule = str(entry.get("rule")) if kind else ""
        if kind == "file":
            self._forget()
        elif kind == "finding" and entry.get("severity") in (Severity.WARNING, Severity.CRITICAL):
            self._last[rule] = self.alerts[str(entry.get("id"))] = entry
            if self._caught_up or (self.since is not None and self.offset > self.since):
                self.fresh.append(entry)
        elif kind == "recovered":
            self._last.pop(rule, None)
        elif kind in ("act", "tick") and lines.is_told(entry):
            if kind == "act":
                self.acts.append(entry)
            else:
                self.ends[attempt_of(entry)] = entry

    def _forget(self) -> None:
        """What follows is about another metrics file."""
        for known in (self._last, self.alerts, self.acts, self.ends):
            known.clear()

    def kill(self) -> Entry | None:
        """The last that was done to stop the attempt that goes on."""
        run_id = self.attempt[0]
        ours = {
            act.get("finding") for act in self.acts if act.get("act") == Did.REQUESTED and act.get("run_id") == run_id
        }
        found = [
            act for act in self.acts
            if act.get("finding") in ours or str(act.get("finding")).startswith(f"{run_id or 'run'}/")
        ]  # fmt: skip
        return found[-1] if found else None

    def gravest(self, *, fresh: bool) -> Entry | None:
        """The worst that is new, or open; of several as bad the last."""
        known = self.fresh if fresh else self.open
        return max(reversed(known), key=lambda entry: entry.get("severity") == Severity.CRITICAL, default=None)
