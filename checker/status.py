"""What a status file says, read without trusting it: any key may be missing, wrong or from another program."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import contract
from checker import process, rows
from checker.events import Life, Tick

MAX_SIZE = contract.RECORD_SIZE


class Status:
    """The status file of one run folder; read again only when it has changed."""

    def __init__(self, folder: Path) -> None:
        self.file = contract.StatusFile(folder)
        self.document: dict[str, Any] = {}
        """The last readable document; empty while there is none."""
        self.problem: str | None = None
        """Why the file that is there cannot be read; None while it can, or while there is none."""
        self.state: contract.State | None = None
        """None while there is no document."""
        self.run_id: str | None = None
        self.process: contract.Process | None = None
        """The process that the document names."""
        self.blind = False
        """It cannot even be looked at, so that nobody knows whether it has changed."""
        self._stamp: contract.Stamp | None = None

    def refresh(self) -> bool:
        """Reads the file if it has changed since; True when there is a new document."""
        try:
            info = os.lstat(self.file.path)
        except (FileNotFoundError, NotADirectoryError):
            changed, self._stamp, self.problem, self.blind = bool(self.document), None, None, False
            self._take({})
            return changed
        except OSError as error:
            return self._cannot(error)
        self.blind = False
        found = contract.stamp(info)
        if found == self._stamp:
            return False
        if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_SIZE:
            kind = "a symbolic link, which is not followed" if stat.S_ISLNK(info.st_mode) else "not a regular file"
            size = f"larger than {MAX_SIZE:,} bytes"
            odd = size if stat.S_ISREG(info.st_mode) else kind
            self._stamp, self.problem = found, f"{contract.STATUS} is {odd}"
            return False
        return self._read(found)

    def _read(self, found: contract.Stamp) -> bool:
        """Takes the new document; a half-saved one leaves the old in force and is tried again at the next look."""
        try:
            document = self.file.read()
        except contract.Unreadable as error:
            self.problem = f"{contract.STATUS} cannot be read: {str(error).removeprefix(f'{self.file.path}: ')}"
            return False
        except OSError as error:
            return self._cannot(error)
        self._stamp, self.problem = found, None
        self._take(document or {})
        return True

    def _take(self, document: dict[str, Any]) -> None:
        self.document = document
        self.state = contract.run_state(document) if document else None
        self.run_id = text(document, "run_id")
        named = process.parse(document)
        if named != self.process:  # most documents name the one that the last one named
            self.process = named

    def _cannot(self, error: OSError) -> bool:
        """Leaves the old document in force: what cannot be seen is not gone."""
        self.problem, self.blind = f"{contract.STATUS} cannot be read: {error.strerror or error}", True
        return False


def text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def whole(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    return value if type(value) is int else None


def asked(document: Mapping[str, Any]) -> str | None:
    """Why the run stopped, as far as its status says: who asked and for what reason."""
    answer = ack(document)
    try:
        kill = contract.Kill.parse(document.get("kill"))
    except TypeError:
        kill = None
    if kill is not None and answer is not None and kill.id == answer[0]:
        return f"{kill.requested_by} asked: {kill.reason}"
    notes = document.get("notes")  # a signal leaves no request in the file, but the trainer says what it heard
    found = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return next((note for note in reversed(found) if note.startswith("asked to stop by ")), None)


def ack(document: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """The id of the request that the trainer has answered, and the step at which it did."""
    found = document.get("ack")
    if not isinstance(found, Mapping) or not isinstance(found.get("id"), str):
        return None
    return found["id"], whole(found, "step")


def tick(document: Mapping[str, Any], now: float) -> Tick:
    """What the judge is told about the clock and the status; the process is added by who looked at it."""
    return Tick(
        now=now,
        state=str(contract.run_state(document)) if document else None,
        run_id=text(document, "run_id"),
        step=whole(document, "step"),
        phase=text(document, "phase"),
        phase_since=rows.seconds(document.get("phase_since")),
        heartbeat_at=rows.seconds(document.get("heartbeat_at")),
        progress_at=rows.seconds(document.get("progress_at")),
        started_at=rows.seconds(document.get("started_at")),
        error=text(document, "error"),
        life=Life.UNKNOWN,
    )
