"""`trainer wrap`, and so `checker run`: any program becomes a run that a checker can see, stop and tell the end of.

It needs no experiment and no change of the program. We write the status file for it, with its process in it; a request
to stop reaches it as a signal. A program that writes a status file of its own takes it over.
"""

from __future__ import annotations

import math
import os
import shlex
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contract import OUTPUT, Exit, Experiment, Kill, Phase, State, StatusFile, Unreadable, now, run_state
from trainer import known
from trainer.errors import SpecError
from trainer.external.custody import Custody, Occupied
from trainer.external.followed import Adopted, Started
from trainer.external.program import ending
from trainer.external.supervise import Attempt, watch
from trainer.stop import Signals

Followed = Started | Adopted


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    state: State
    error: str | None
    code: int


def wrap(folder: Path, command: list[str], *, pid: int | None, stop_signal: int) -> int:
    """Runs a program, or follows one that runs already, until it ends.

    Args:
        folder: the run folder; made if it is missing.
        command: the program with its arguments; empty with a `pid`.
        pid: of the program that runs already.
        stop_signal: what a request to stop is passed on as.

    Returns:
        The program's own exit code; 3 when it was asked to stop; 0 for one that was only followed.

    Raises:
        SpecError: it cannot be begun; nothing was started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    _must_be_free(folder)
    run_id = uuid.uuid4().hex[:12]
    experiment = _experiment(folder)
    custody = Custody(folder, experiment, run_id)
    attempt = Attempt(folder, experiment, command, {"run_id": run_id}, custody, Signals(), math.inf)
    attempt.signals.install()  # before anything is written: whatever comes now, the status tells the end
    try:
        custody.claim()
        try:
            ended = _followed(attempt, _beginning(attempt, pid, stop_signal))
        except BaseException as error:
            custody.end(State.ABORTED, f"checker run: {type(error).__name__}: {error}")
            raise
    except (Occupied, OSError, ValueError) as error:
        custody.file.close()
        raise SpecError(f"{folder}: cannot be begun ({error})") from None
    finally:
        attempt.signals.restore()
    custody.end(ended.state, ended.error)
    attempt.say(f"{ended.state}{f': {ended.error}' if ended.error else ''}")
    return ended.code


def _beginning(attempt: Attempt, pid: int | None, stop_signal: int) -> Callable[[], Followed]:
    """What starts the program, or finds it."""
    output = attempt.folder / OUTPUT
    if pid is not None:
        attempt.say(f"-> {attempt.folder} (follows process {pid})")
        return lambda: Adopted(pid, output, stop_signal)
    attempt.say(f"-> {attempt.folder} (run {attempt.run_id}): {shlex.join(attempt.command)}")
    return lambda: Started(attempt.command, output, attempt.run_id, stop_signal)


def _followed(attempt: Attempt, begin: Callable[[], Followed]) -> Ending:
    program = begin()
    # Nobody knows when it does what: in this phase only long silence counts, and one that computes is never forced.
    attempt.custody.enter(Phase.FIT, program.process)
    kill = watch(attempt, program)
    attempt.status()  # whose the status file is by now
    return _judged(attempt, kill, program.end(clear=kill is not None), program)


def _judged(attempt: Attempt, kill: Kill | None, code: int | None, program: Followed) -> Ending:
    """How it ended: by its exit code, for there is nothing else that every program tells."""
    custody = attempt.custody
    document = attempt.status()
    if kill is not None or (custody.taken_over and document and run_state(document) is State.KILLED):
        custody.note(f"the program stopped ({ending(code) if code is not None else 'its process is gone'})")
        return Ending(State.KILLED, None, Exit.STOPPED)
    if code is None:
        custody.note("its process has ended; whether it ended well only its parent knows")
        return Ending(State.COMPLETED, None, Exit.FINISHED)
    if code == 0:
        return Ending(State.COMPLETED, None, Exit.FINISHED)
    words = program.output.last_words()
    return Ending(State.FAILED, f"{ending(code)}{f'; last output: {words}' if words else ''}", _shell(code))


def _shell(code: int) -> int:
    """The exit code as a shell tells it: 128 more than the signal that ended a program."""
    return code if code >= 0 else 128 - code


def _must_be_free(folder: Path) -> None:
    """Sees to it that the folder is free: that no run lives in it.

    Raises:
        SpecError: a run of this folder lives, or nobody can tell from here.
    """
    if not os.access(folder, os.W_OK):
        raise SpecError(f"{folder}: cannot be written")
    status = StatusFile(folder)
    try:
        document = status.read() or {}
    except (Unreadable, OSError) as error:
        raise SpecError(f"{error}") from None
    finally:
        status.close()
    if document and run_state(document) is State.RUNNING and not known.gone(document.get("process")):
        raise SpecError(f"{folder}: a run goes on here (its status says running); take another folder")


def _experiment(folder: Path) -> Experiment:
    """What the folder's `experiment.json` declares, where there is one."""
    try:
        return known.read_record(folder)
    except (SpecError, OSError):
        return Experiment(id=folder.name, created_at=now(), name=folder.name)
