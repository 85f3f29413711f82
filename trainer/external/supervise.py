"""While a program runs for `trainer exec`: its status is read, its time is counted, and a request to stop reaches it.

Standard library only.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from contract import METRICS, Experiment, Kill, StatusBusy, StatusFile, Unreadable, now, number_in, request_kill
from trainer.external.custody import Custody
from trainer.external.handover import Document
from trainer.external.output import say
from trainer.external.progress import Progress
from trainer.external.stopping import Stopping, asked
from trainer.stop import Signals, by_signal

_PACE_SECONDS = 0.1
"""Between two looks, each of them a few system calls: nobody waits long for an answer."""


@dataclass(frozen=True)
class Attempt:
    """One run of a program for an experiment."""

    folder: Path
    experiment: Experiment
    command: list[str]
    spec: Document
    custody: Custody
    signals: Signals
    deadline: float
    """Of the monotonic clock: when the budget and its grace are used up."""

    @property
    def run_id(self) -> str:
        return str(self.spec["run_id"])

    def status(self) -> dict[str, Any]:
        """The status document; empty while there is none that can be read."""
        try:
            document = self.custody.file.read() or {}
        except (Unreadable, OSError):
            return {}
        self.custody.see(document)
        return document

    def say(self, text: str) -> None:
        say(f"{self.experiment.id} {text}")


def deadline(experiment: Experiment, grace_seconds: float) -> float:
    """When a run that begins now has used up its wall-clock budget and the grace; never, where it has none."""
    minutes = number_in(experiment.budget.get("wall_minutes"))
    return time.monotonic() + (math.inf if minutes is None or math.isnan(minutes) else 60 * minutes + grace_seconds)


class Supervised(Protocol):
    """A running program, as far as watching it goes."""

    @property
    def output(self) -> Spoken: ...
    def ended(self) -> bool: ...
    def others(self) -> list[int]: ...
    def tell(self, signum: int, /) -> None: ...


class Spoken(Protocol):
    """What it prints."""

    @property
    def grew_at(self) -> float: ...


def watch(attempt: Attempt, program: Supervised) -> Kill | None:
    """Waits for the end of the program, and passes on whoever asks it to stop. Returns the request it was under."""
    stopping: Stopping | None = None
    progress = Progress(lambda: program.output.grew_at, attempt.folder / METRICS, program.others)
    while not program.ended():
        document, moment = attempt.status(), time.monotonic()
        kill = None if stopping else _request(attempt, document, moment)
        if kill is not None:
            stopping = _begin(attempt, kill, moment)
        signum = stopping.due(moment, document) if stopping else None
        if signum is not None:
            program.tell(signum)
        attempt.custody.progress_at = datetime.fromtimestamp(progress.at(), UTC).isoformat(timespec="microseconds")
        time.sleep(_PACE_SECONDS)
    return stopping.kill if stopping else None


def _begin(attempt: Attempt, kill: Kill, moment: float) -> Stopping:
    """A request is answered; a program that writes its own status answers by itself, unless we were the ones asked."""
    if not attempt.custody.taken_over:
        attempt.custody.acknowledge(kill)
    attempt.say(f"asked to stop by {kill.requested_by}: {kill.reason}")
    return Stopping(kill, moment, answers=attempt.custody.taken_over and kill.requested_by != "signal")


def _request(attempt: Attempt, document: dict[str, Any], moment: float) -> Kill | None:
    """Who asks the program to stop, if anybody: a signal to us, the status file, or the clock."""
    if attempt.signals.heard is not None:
        return by_signal(attempt.signals.heard)
    kill = asked(document, attempt.run_id)
    if kill is not None or moment < attempt.deadline:
        return kill
    minutes = attempt.experiment.budget["wall_minutes"]
    budget = Kill(
        id=f"budget-{attempt.run_id}",
        reason=f"budget: wall_minutes = {minutes:g} are used up",
        rule="budget",
        requested_by="trainer exec",
        requested_at=now(),
        run_id=document.get("run_id", attempt.run_id),
    )
    status = StatusFile(attempt.folder)  # the other one serves the heartbeat's thread
    try:
        request_kill(status, budget)
    except StatusBusy:
        return None  # somebody is saving it; at the next look
    except OSError:
        return budget  # then by signal only
    finally:
        status.close()
    return budget
