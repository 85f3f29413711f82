"""An experiment that is on disk already: which one is meant, what it asks for and where it stands."""

from __future__ import annotations

import difflib
from pathlib import Path

from contract import (
    EXPERIMENT,
    FORMAT,
    Experiment,
    State,
    StatusFile,
    Unreadable,
    boot_id,
    experiment_faults,
    process_started,
    run_state,
    this_process,
)
from trainer.document import read_object
from trainer.errors import SpecError


def find(named: Path, root: Path) -> Path:
    """The folder that is meant: a path, or the id of an experiment in `root`.

    Raises:
        SpecError: there is neither; the message names ids that are near.
    """
    if named.is_dir():
        return named
    if len(named.parts) == 1 and (root / named).is_dir():
        return root / named
    there = [path.name for path in root.iterdir() if (path / EXPERIMENT).exists()] if root.is_dir() else []
    near = difflib.get_close_matches(named.name, there, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise SpecError(f"{named}: there is no such folder, and no experiment of that name in {root}{hint}")


def read_record(folder: Path) -> Experiment:
    """The experiment in a folder.

    Raises:
        SpecError: it is no experiment, it was written in a newer format, or values in it are of the wrong kind.
    """
    path = folder / EXPERIMENT
    try:
        record = read_object(path)
    except FileNotFoundError:
        raise SpecError(f"{folder}: has no {EXPERIMENT}; give a spec (.toml) or an experiment's folder") from None
    except (Unreadable, OSError) as error:
        raise SpecError(str(error)) from None
    version = record.get("v")
    if isinstance(version, int) and version > FORMAT:
        raise SpecError(f"{path}: is written in format {version}, this trainer knows up to {FORMAT}; upgrade it")
    wrong = experiment_faults(record)
    if wrong:
        raise SpecError("\n  ".join([f"{path}: {len(wrong)} thing(s) to correct", *wrong]))
    return Experiment.parse(record)


def read(folder: Path) -> tuple[Experiment, State]:
    """The experiment in a folder and where it stands.

    Raises:
        SpecError: it is no experiment, it was written in a newer format, or it is being trained at this moment.
    """
    experiment = read_record(folder)
    try:
        status = StatusFile(folder).read()
    except (Unreadable, OSError) as error:
        raise SpecError(str(error)) from None
    if status is None:
        return experiment, State.PENDING
    state = run_state(status)
    pid = living(status.get("process"))
    if state is State.RUNNING and pid:
        raise SpecError(f"{folder}: is being trained by process {pid} at this moment; ask it to stop first")
    return experiment, state


def to_begin(folder: Path) -> Experiment:
    """The experiment in a folder, when another program may be run for it: it is pending, or ended without a result.

    Raises:
        SpecError: it may not, or it does not say which metric counts.
    """
    experiment, state = read(folder)
    if state in (State.COMPLETED, State.KILLED):
        again = f"trainer new --external --parent {experiment.id} --hypothesis TEXT"
        raise SpecError(f"{folder}: is {state} and stays so; for another attempt write a child down: {again}")
    if state is State.RUNNING:
        raise SpecError(f"{folder}: its status says running; if its process is gone: trainer abort {experiment.id}")
    if not experiment.metric.get("name") or experiment.metric.get("direction") not in ("min", "max"):
        where = f"{folder / EXPERIMENT}: metric = {dict(experiment.metric)}"
        raise SpecError(f"{where}: a result needs the name of the metric that counts, and its direction, min or max")
    return experiment


def living(process: object) -> int | None:
    """The pid of the process in a status document when it is alive on this machine; a reused pid does not count."""
    if not isinstance(process, dict) or not isinstance(process.get("pid"), int):
        return None
    if (process.get("host"), process.get("boot_id")) != (this_process().host, boot_id()):
        return None
    started = process_started(process["pid"])
    return process["pid"] if started is not None and started == process.get("started") else None


def gone(process: object) -> bool:
    """Whether the process in a status document is known to be gone: it ran on this machine, and runs there no more."""
    if not isinstance(process, dict) or process.get("host") != this_process().host:
        return False
    boot, started, pid = process.get("boot_id"), process.get("started"), process.get("pid")
    if boot is not None and boot != boot_id():
        return True  # the machine has been started anew
    if not isinstance(pid, int) or boot_id() is None:
        return False
    now = process_started(pid)
    return now is None or (started is not None and now != started)
