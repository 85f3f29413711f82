"""What is to be done about a spec of a sweep: begin it, go on with it, or leave it as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from contract import Exit, Kill, State, run_state
from trainer.sweep.asking import ASKER
from trainer.sweep.job import Job
from trainer.sweep.plan import TRAINER, Plan

_ENDS = {State.COMPLETED: Exit.FINISHED, State.KILLED: Exit.STOPPED, State.FAILED: Exit.FAILED}


class Step(NamedTuple):
    """The next step about a spec."""

    command: list[str] | None
    """What is to be started; None when nothing is."""
    text: str
    code: int | None = None
    """How the run ended that is left as it is."""


def step(plan: Plan, job: Job) -> Step:
    """The next step: a run that somebody wanted to end is not resumed, and neither is one that failed by itself."""
    folder, document = job.folder(), job.status()
    if folder is None:
        return Step(plan.run(job.spec), "started")
    if document is None:
        return Step([*TRAINER, "run", str(folder)], f"started as {folder.name}")
    state = run_state(document)
    if state is State.RUNNING or (state is State.KILLED and interrupted(document)):
        return Step([*TRAINER, "run", str(folder), "--resume"], f"going on with {folder.name}")
    return Step(None, f"{folder.name} was {state} before", _ENDS.get(state, Exit.FAILED))


def interrupted(document: Mapping[str, Any]) -> bool:
    """Whether a run was stopped by a signal or by the sweep itself, and so by nothing that speaks against it."""
    ack = document.get("ack")
    answered = str(ack.get("id")) if isinstance(ack, Mapping) else ""
    if answered.startswith("signal-"):
        return True
    kill = Kill.parse(document.get("kill"))
    return kill is not None and kill.id == answered and kill.requested_by == ASKER
