"""Who writes the status file while `trainer exec` has another program train. Standard library only.

`trainer exec` does, until the program takes the file over: a program with a `RunLog` writes it itself, and better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from contract import FORMAT, Ack, Experiment, Kill, Phase, Process, State, now, run_state, this_process
from trainer import known
from trainer.status import Document, StatusWriter


class Occupied(RuntimeError):
    """Somebody else's run has begun in the folder."""


class _TakenOver(Exception):
    """The document on disk is the program's."""


class Custody(StatusWriter):
    """The status file of one run. `begin` claims it, and `end` says how the run ended, whoever wrote in between."""

    def __init__(self, folder: Path, experiment: Experiment, run_id: str) -> None:
        super().__init__(folder, self._document)
        self.state = State.PENDING.to(State.RUNNING)
        self.taken_over = False
        """The program writes the file itself: the start that stands in it is not the one we wrote."""
        self.progress_at = self._started_at = self._phase_since = now()
        self._began = monotonic()
        self._experiment, self._run_id = experiment, run_id
        self._process = this_process()
        self._phase = Phase.START
        self._ack: Ack | None = None
        self._error: str | None = None
        self._notes: list[str] = []
        self._claimed = False

    def claim(self) -> None:
        """Writes that the run has begun.

        Raises:
            Occupied: another run has begun in the folder meanwhile.
            OSError: the folder cannot be written.
        """
        unserved = self.begin()
        self._claimed = True
        if unserved is not None:
            self.note(f"a request to stop from before this run was set aside: {unserved.reason}")

    def see(self, document: Mapping[str, Any]) -> None:
        """Looks at a document whether it is still ours."""
        if self._claimed and document:
            self.taken_over |= document.get("started_at") != self._started_at

    def enter(self, phase: Phase, process: Process) -> None:
        """Says who works from now on, and at what; a checker signals nobody but this process."""
        self._phase, self._process = phase, process
        self.progress_at = self._phase_since = now()
        self.write(patience=1.0)

    def note(self, text: str) -> None:
        self._notes.append(text)

    def acknowledge(self, kill: Kill) -> None:
        """Answers a request, unless the program does."""
        self.note(f"asked to stop by {kill.requested_by}: {kill.reason}")
        self._ack = Ack(id=kill.id, at=now())
        self.write(patience=1.0)

    def end(self, state: State, error: str | None) -> None:
        """The last word.

        Raises:
            IllegalTransition: `state` is not one in which a run can end.
        """
        self.state, self._error = self.state.to(state), error
        self.close()

    def _edit(self, change: Callable[[Document], Document]) -> None:
        def ours(document: Document) -> Document:
            if not self._claimed:
                self._must_be_free(document)
            self.see(document)
            if not self.taken_over:
                return change(document)
            if not self.state.final:
                raise _TakenOver
            return self._corrected(document)

        try:
            super()._edit(ours)
        except _TakenOver:
            return

    def _must_be_free(self, document: Mapping[str, Any]) -> None:
        running = document and run_state(document) is State.RUNNING and document.get("run_id") != self._run_id
        if running and not known.gone(document.get("process")):
            raise Occupied(f"run {document.get('run_id')} has begun in {self.file.path.parent} at this moment")

    def _corrected(self, document: Mapping[str, Any]) -> Document:
        """The program's own last document, with our notes; its state and error only where the verdict differs."""
        notes = document.get("notes")
        after = {**document, "notes": [*(notes if isinstance(notes, list) else []), *self._notes]}
        if run_state(document) is not self.state or "state" not in document:
            after |= {"state": str(self.state), "is_training": False, "error": self._error}
        return {**after, "error": after.get("error") or self._error}

    def _document(self) -> Document:
        """Every key of the status document but `kill`; those of an earlier attempt are emptied."""
        experiment = self._experiment
        return {
            "v": FORMAT,
            "experiment_id": experiment.id,
            "experiment_name": experiment.name or experiment.id,
            "run_id": self._run_id,
            "state": str(self.state),
            "is_training": not self.state.final,
            "step": None,
            "total_steps": experiment.total_steps,
            "epoch": None,
            "total_epochs": experiment.total_epochs,
            "phase": str(self._phase),
            "phase_since": self._phase_since,
            "started_at": self._started_at,
            "heartbeat_at": now(),
            "progress_at": self.progress_at,
            "metrics": {},
            "best_metrics": {},
            "learning_rate": None,
            "wall_time_seconds": round(monotonic() - self._began, 3),
            "checkpoints": [],
            "metrics_history": [],
            "process": dataclasses.asdict(self._process),
            "stack_signal": None,  # nobody knows what the program does with one
            "error": self._error,
            "notes": list(self._notes),
            "ack": dataclasses.asdict(self._ack) if self._ack else None,
            "config": experiment.config,
        }
