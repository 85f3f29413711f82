"""Checkpoints: complete, atomic, and checked against their hash before they are believed."""

from __future__ import annotations

import hashlib
import io
import pickle
import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from contract import CHECKPOINTS
from trainer import sealed

State = dict[str, Any]


class BadCheckpoint(RuntimeError):
    """A checkpoint that is not there or not what was written; the message says which and why."""


def save(folder: Path, name: str, state: State) -> Path:
    """Writes `state` as `checkpoints/<name>.pt` with its SHA-256 beside it; a crash costs neither old nor new."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = folder / CHECKPOINTS / f"{name}.pt"
    sealed.write(path, buffer.getvalue())
    return path


def load(path: Path) -> State:
    """The state in one checkpoint, on the CPU. Nothing in the file is executed.

    Raises:
        BadCheckpoint: the file is missing, changed since it was written, or not a checkpoint.
    """
    return load_named(path)[0]


def load_named(path: Path) -> tuple[State, str]:
    """As `load`, with the SHA-256 of exactly the bytes that were loaded: a run may be writing the next ones."""
    try:
        data = sealed.read(path)
    except sealed.Damaged as error:
        raise BadCheckpoint(str(error)) from None
    try:
        state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise BadCheckpoint(f"{path}: torch cannot read it: {error}") from None
    return state, hashlib.sha256(data).hexdigest()


def described(folder: Path, name: str) -> dict[str, str] | None:
    """`path`, relative to the folder, and `sha256` of a checkpoint as its hash file tells them; None without one."""
    path = folder / CHECKPOINTS / f"{name}.pt"
    with suppress(OSError, IndexError):
        return {"path": path.relative_to(folder).as_posix(), "sha256": sealed.beside(path).read_text().split()[0]}
    return None


def load_newest(folder: Path) -> tuple[State | None, list[str]]:
    """The state to go on from: of `last.pt`, or of `best.pt` when that is damaged.

    Returns:
        The state, or None when the run never saved one; and a sentence about every file that had to be passed over.

    Raises:
        BadCheckpoint: there are checkpoints, but none is sound.
    """
    paths = [folder / CHECKPOINTS / f"{name}.pt" for name in ("last", "best")]
    if not any(path.exists() for path in paths):
        return None, []
    troubles: list[str] = []
    for path in paths:
        try:
            return load(path), troubles
        except BadCheckpoint as error:
            troubles.append(str(error))
    raise BadCheckpoint("no sound checkpoint to go on from: " + "; ".join(troubles))


def random_state() -> State:
    """Every random generator's state, as tensors and plain values that load without executing anything."""
    state: State = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, *rest = numpy.random.get_state()
        state["numpy"] = [name, keys.tolist(), *rest]
    return state


def restore_random_state(state: State) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    numpy = sys.modules.get("numpy")
    if "numpy" in state and numpy is not None:
        numpy.random.set_state(tuple(state["numpy"]))


def seed_everything(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
