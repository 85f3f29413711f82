"""The checkpoints of a run: `step-00000400.pt` and so on, of which `last.pt` and `best.pt` are other names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from contract import CHECKPOINTS, number_in, number_out, replace
from trainer import sealed

State = dict[str, Any]

LAST, BEST = "last", "best"


class BadCheckpoint(RuntimeError):
    """A checkpoint that is not there or not what was written; the message says which and why."""


class Saved(NamedTuple):
    """A checkpoint of one step, as the note beside it tells it."""

    step: int
    path: Path
    value: float | None = None
    """Of the primary metric, where it was measured just then."""


def save(folder: Path, name: str, state: State) -> Path:
    """Writes `state` as `checkpoints/<name>.pt` with its SHA-256 beside it; a crash costs neither old nor new.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    path = folder / CHECKPOINTS / f"{name}.pt"
    sealed.stream(path, lambda file: torch.save(state, file))
    return path


def save_step(folder: Path, state: State, *, value: float | None, note: Mapping[str, Any], best: bool) -> Path:
    """Writes the checkpoint of a step, and gives it the name `last`, and `best` where it is.

    Args:
        folder: the run's.
        state: holds its `step`.
        value: of the primary metric at this step; None where it was not measured.
        note: what else to note beside it, for people and programs that do not load it.
        best: whether no step was better.

    Raises:
        OSError: as for `save`.
    """
    step = state["step"]
    path = step_file(folder, step)
    path.parent.mkdir(exist_ok=True)
    sweep(folder)
    told = {"step": step, "value": None if value is None else number_out(value), **note}
    replace(path.with_suffix(".json"), json.dumps(told, indent=1).encode())  # first: no file without
    try:
        save(folder, path.stem, state)
    except OSError:
        if not path.exists():
            path.with_suffix(".json").unlink(missing_ok=True)
        raise
    for name in (LAST, BEST) if best else (LAST,):
        sealed.link(path.with_name(f"{name}.pt"), path)
    return path


def step_file(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / CHECKPOINTS / f"step-{step:08d}.pt"


def sweep(folder: Path) -> list[Path]:
    """Removes what a kill has left of files that were never finished, and returns it; only for whoever writes there.

    What cannot be removed stays: it is in nobody's way but the disk's.
    """
    gone = list((folder / CHECKPOINTS).glob(".*.pt.*")) + list((folder / CHECKPOINTS).glob(".step-*.json.*"))
    for path in gone:
        with suppress(OSError):
            path.unlink()
    return gone


def name_again(folder: Path, name: str, step: int) -> None:
    """Has `name` be the checkpoint of a step once more, where that is there and sound.

    A kill between the writing of a checkpoint and of its names leaves them with the checkpoint before.

    Raises:
        OSError: as for `save`.
    """
    path, there = folder / CHECKPOINTS / f"{name}.pt", step_file(folder, step)
    wanted = described(folder, there.stem)
    if wanted is not None and wanted["sha256"] != (described(folder, name) or {}).get("sha256") and whole(there):
        sealed.link(path, there)


def saved(folder: Path) -> list[Saved]:
    """The checkpoints of single steps, in the order of their steps."""
    return sorted(
        Saved(int(match[1]), path, _value(path.with_suffix(".json")))
        for path in (folder / CHECKPOINTS).glob("step-*.pt")
        if (match := re.fullmatch(r"step-(\d+)\.pt", path.name))
    )


def _value(note: Path) -> float | None:
    with suppress(OSError, ValueError, AttributeError):
        return number_in(json.loads(note.read_bytes()).get("value"))
    return None


def remove(one: Saved) -> None:
    """Removes the checkpoint of a step; under its other names it stays."""
    for path in (one.path, sealed.beside(one.path), one.path.with_suffix(".json")):
        path.unlink(missing_ok=True)


def load(path: Path) -> State:
    """The state in one checkpoint, on the CPU. Nothing in the file is executed.

    Raises:
        BadCheckpoint: the file is missing, changed since it was written, or not a checkpoint.
    """
    return load_named(path)[0]


def load_named(path: Path) -> tuple[State, str]:
    """As `load`, with the SHA-256 of exactly the bytes that were loaded: a run may be writing the next ones."""
    try:
        with sealed.opened(path) as (file, digest):
            state = torch.load(file, map_location="cpu", weights_only=True)
    except sealed.Damaged as error:
        raise BadCheckpoint(str(error)) from None
    except Exception as error:  # noqa: BLE001 - the unpickler raises whatever it stumbles over
        raise BadCheckpoint(f"{path}: torch cannot read it: {error}") from None
    if not isinstance(state, dict):
        raise BadCheckpoint(f"{path}: holds {type(state).__name__}, and no state of a run")
    return state, digest


def whole(path: Path) -> bool:
    """Whether a checkpoint is what was written; it is read, not loaded."""
    with suppress(sealed.Damaged), sealed.opened(path):
        return True
    return False


def described(folder: Path, name: str) -> dict[str, str] | None:
    """`path`, relative to the folder, and `sha256` of a checkpoint as its hash file tells them; None without one."""
    path = folder / CHECKPOINTS / f"{name}.pt"
    with suppress(OSError, IndexError):
        return {"path": path.relative_to(folder).as_posix(), "sha256": sealed.hashes(path)[0]}
    return None


def load_newest(folder: Path) -> tuple[State | None, list[str]]:
    """The state to go on from: the newest one that is sound.

    Returns:
        The state, or None when the run never saved one; and a sentence about every file that had to be passed over.

    Raises:
        BadCheckpoint: there are checkpoints, but none is sound.
    """
    steps = [one.path for one in reversed(saved(folder))]
    last, best = (folder / CHECKPOINTS / f"{name}.pt" for name in (LAST, BEST))
    # Without hard links `last` is a copy of the newest one, and may be sound where that is not.
    paths = [path for path in (*steps[:1], last, *steps[1:], best) if path.exists()]
    if not paths:
        return None, []
    troubles: list[str] = []
    for path in paths:
        try:
            return load(path), troubles
        except BadCheckpoint as error:
            troubles.append(str(error))
    raise BadCheckpoint("no sound checkpoint to go on from: " + "; ".join(troubles))
