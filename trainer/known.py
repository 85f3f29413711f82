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
    decode_object,
    process_started,
    run_state,
    this_process,
)
from trainer.spec import SpecError


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
        SpecError: it is no experiment, or it was written in a newer format.
    """
    path = folder / EXPERIMENT
    try:
        document = decode_object(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise SpecError(f"{folder}: has no {EXPERIMENT}; give a spec (.toml) or an experiment's folder") from None
    except (Unreadable, OSError) as error:
        raise SpecError(str(error)) from None
    version = document.get("v")
    if isinstance(version, int) and version > FORMAT:
        raise SpecError(f"{path}: is written in format {version}, this trainer knows up to {FORMAT}; upgrade it")
    return Experiment.parse(document)


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


def living(process: object) -> int | None:
    """The pid of the process in a status document when it is alive on this machine; a reused pid does not count."""
    if not isinstance(process, dict) or not isinstance(process.get("pid"), int):
        return None
    if (process.get("host"), process.get("boot_id")) != (this_process().host, boot_id()):
        return None
    started = process_started(process["pid"])
    return process["pid"] if started is not None and started == process.get("started") else None
