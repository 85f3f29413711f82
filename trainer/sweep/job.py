"""One spec of a sweep and what came of it, and the table of all of them."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import Exit, StatusFile, Unreadable, run_state


@dataclass(eq=False)
class Job:
    """One spec and what came of it."""

    spec: Path
    log: Path
    experiments: Path
    started: bool = False
    began: float = 0.0
    seconds: float = 0.0
    code: int | None = None
    written: int = 0
    """Bytes of its log before it was given to somebody who starts it in his own time."""

    @property
    def accounted_for(self) -> bool:
        return self.code in (Exit.FINISHED, Exit.STOPPED)

    def start(self) -> None:
        self.started, self.began = True, time.monotonic()

    def end(self, code: int | None, seconds: float | None = None) -> None:
        self.code = code
        self.seconds = time.monotonic() - self.began if seconds is None else seconds

    def folder(self) -> Path | None:
        """The experiment that the run said it is, in a line of its output of its own."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        found = re.search(r"^(\S+) -> ", text, re.MULTILINE)
        folder = self.experiments / found[1] if found else None
        return folder if folder is not None and folder.is_dir() else None

    def status(self) -> dict[str, Any] | None:
        """What its status file says; None where there is none to read."""
        folder = self.folder()
        try:
            return StatusFile(folder).read() if folder else None
        except (OSError, Unreadable):
            return None

    def state(self) -> str:
        document = self.status()
        return str(run_state(document)) if document else "-"

    def outcome(self) -> str:
        folder = self.folder()
        name = folder.name if folder else "no experiment"
        text = f"{name} {self.state()} after {self.seconds:.1f} s ({self._ending()})"
        return text if self.accounted_for else f"{text}; its output: {self.log}"

    def _ending(self) -> str:
        if self.code is None:
            return "lost"
        return signal.Signals(-self.code).name if self.code < 0 else f"exit {self.code}"

    def say(self, text: str) -> None:
        print(f"{self.spec.stem}: {text}", flush=True)


def table(jobs: Sequence[Job]) -> str:
    rows = [("spec", "experiment", "exit", "state", "seconds")]
    for job in jobs:
        folder = job.folder()
        code = "-" if job.code is None else str(job.code)
        state = job.state() if job.started or folder else "not started"
        rows.append((job.spec.stem, folder.name if folder else "-", code, state, f"{job.seconds:.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
