"""`trainer exec`: any program as the trainer of an experiment that was written down before. Needs no torch.

The program gets `spec.json`, trains however it likes, and leaves `result.json`. Nothing else that it prints or returns
counts as a result, and a result that is not exactly what was asked for counts as none.
"""

from __future__ import annotations

import shlex
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from contract import OUTPUT, RESULT, Exit, Phase, State, replace, this_process
from trainer import fingerprints, known, result
from trainer.errors import SpecError
from trainer.external import acceptance, handover
from trainer.external.custody import Custody, Occupied
from trainer.external.program import Program
from trainer.external.supervise import Attempt, deadline, watch
from trainer.external.verdict import Verdict, conclude
from trainer.stop import Signals

GRACE_SECONDS = 30.0
"""Past the wall-clock budget, in which a checker that enforces it goes first and a program may notice by itself."""

_EXIT = {State.COMPLETED: Exit.FINISHED, State.KILLED: Exit.STOPPED}


def execute(folder: Path, command: list[str], *, grace_seconds: float = GRACE_SECONDS) -> Exit:
    """Runs a program and judges what it has come to.

    Args:
        folder: the experiment's.
        command: the program with its arguments; `{spec}`, `{folder}` and `{result}` in them stand for paths.
        grace_seconds: from the end of the wall-clock budget until the program is stopped.

    Returns:
        FINISHED with a result in order; STOPPED when it was asked to stop or used up its budget; FAILED otherwise.

    Raises:
        SpecError: the experiment cannot be begun; nothing was started.
    """
    folder = folder.resolve()
    experiment = known.to_begin(folder)
    run_id = uuid.uuid4().hex[:12]
    attempt = Attempt(
        folder,
        experiment,
        handover.filled_in(command, folder),
        handover.spec_of(folder, experiment, run_id),
        Custody(folder, experiment, run_id),
        Signals(),
        deadline(experiment, grace_seconds),
    )
    attempt.signals.install()  # before anything is written: whatever comes now, all that was begun is ended
    try:
        return _carry_out(attempt)
    finally:
        attempt.signals.restore()


def _carry_out(attempt: Attempt) -> Exit:
    custody = attempt.custody
    try:
        custody.claim()
    except (Occupied, OSError) as error:
        custody.file.close()
        raise SpecError(f"{attempt.folder}: cannot be begun ({error})") from None
    attempt.say(f"-> {attempt.folder} (run {attempt.run_id}): {shlex.join(attempt.command)}")
    try:
        verdict = _run(attempt)
    except BaseException as error:
        _reject(attempt)
        custody.end(State.ABORTED, f"trainer exec: {type(error).__name__}: {error}")
        raise
    for line in (*verdict.faults, *verdict.notes):
        custody.note(line)
        attempt.say(line)
    custody.end(verdict.state, verdict.error)
    why = f"{RESULT} was rejected" if verdict.faults else verdict.error
    attempt.say(f"{verdict.state}{f': {why}' if why else ''}")
    return _EXIT.get(verdict.state, Exit.FAILED)


def _reject(attempt: Attempt) -> None:
    """Sets aside what the program may have left and nobody has judged: only a completed run's result has that name."""
    with suppress(OSError):
        aside = handover.set_aside(attempt.folder, "rejected", attempt.run_id)
        if aside:
            attempt.custody.note(f"{RESULT} was set aside as {aside}")


def _run(attempt: Attempt) -> Verdict:
    """From the handover to the verdict; whatever was started is gone when it returns."""
    folder, custody = attempt.folder, attempt.custody
    old = handover.set_aside(folder, "before", attempt.run_id)  # first of all: what is there later is the program's
    if old:
        custody.note(f"a {RESULT} from before this run was set aside as {old}")
    runs_on = _runs_on(attempt)
    with handover.handed_over(folder, attempt.spec) as spec:
        try:
            program = Program(attempt.command, handover.environment(folder, attempt.run_id), spec)
        except (OSError, ValueError) as error:  # a NUL in an argument is a ValueError
            return Verdict(State.FAILED, f"{attempt.command[0]}: cannot be started ({error})")
        with program:
            custody.enter(Phase.TRAIN, program.process)
            kill = watch(attempt, program)
            custody.enter(Phase.EVALUATE, this_process())  # or a checker would miss the program and call it a crash
            code, left = program.finish()
    if left:
        custody.note(f"{left} processes that the program had left behind were ended")
    with suppress(OSError):  # a full disk has spoiled more than this
        replace(folder / OUTPUT, program.output.tail())
    found, mismatches = acceptance.accepted(attempt.spec)
    verdict = conclude(code, kill, attempt.status(), found, mismatches, program.output.last_words())
    if verdict.state is State.COMPLETED and found is not None:
        return _kept(attempt, verdict, found, runs_on)
    why = "killed" if verdict.state is State.KILLED else "failed" if found else "rejected"
    aside = handover.set_aside(folder, why, attempt.run_id)
    if aside:
        verdict.notes.append(f"{RESULT} was set aside as {aside}")
    return verdict


def _runs_on(attempt: Attempt) -> dict[str, Any]:
    """The fingerprints of what the program runs on; what has changed since the experiment was written down is noted."""
    handed = attempt.spec["fingerprints"]
    found = {**handed, "code": fingerprints.code(Path.cwd(), without=attempt.folder.parent)}
    for change in fingerprints.mismatches(attempt.experiment.fingerprints, found):
        attempt.custody.note(f"since it was created, {change}")
        attempt.say(f"since it was created, {change}")
    return found


def _kept(attempt: Attempt, verdict: Verdict, found: acceptance.Result, runs_on: dict[str, Any]) -> Verdict:
    """Writes the result in the project's own form."""
    try:
        document = result.write(
            attempt.folder,
            attempt.experiment,
            run_id=attempt.run_id,
            value=found.value,
            secondary=found.secondary,
            fingerprints=runs_on,
            checkpoint=found.checkpoint,
        )
    except OSError as error:
        with suppress(OSError):
            handover.set_aside(attempt.folder, "rejected", attempt.run_id)
        return Verdict(State.FAILED, f"{RESULT} cannot be written: {error}")
    tier = document["oracle_tier"]
    told = f"{document['primary_metric']['name']} {found.value}{f', tier {tier}' if tier else ''}"
    attempt.say(told)
    return verdict
