"""`experiment.json` becomes the plan that rules measure against; a field of the wrong kind is left out, and named."""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import contract
from checker.events import Plan

_TEXT = ("id", "created_at", "name", "parent", "hypothesis", "rationale")
_WHOLE = ("total_steps", "total_epochs")
_TABLES = ("config", "schedule", "fingerprints")
_NUMBERS = ("tiers", "budget")


def load(folder: Path) -> tuple[Plan, str | None]:
    """The plan of a run folder, and what is wrong with its file, if anything is.

    Without a usable file a run is judged all the same, only without the yardsticks it might have declared.

    Raises:
        OSError: this process cannot open any file just now.
    """
    path = folder / contract.EXPERIMENT
    try:
        document = contract.decode_object(contract.read_plain(path)[0], str(path))
    except FileNotFoundError:
        return Plan(), None
    except (OSError, contract.Unreadable) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise  # it is our own fault, and over soon; the run must not be judged without its yardsticks for that
        return Plan(), f"{error}; judging without it"
    clean = {name: value for name, value in document.items() if _usable(name, value)}
    odd = sorted(document.keys() - clean.keys() - {name for name, value in document.items() if value is None})
    for name in _NUMBERS:
        if name in clean:
            clean[name] = {key: number for key, value in clean[name].items() if (number := _number(value)) is not None}
    for name in _WHOLE:
        if name in clean:
            clean[name] = int(clean[name])
    problem = f"{path}: {', '.join(odd)} of an unexpected kind; judging without" if odd else None
    return Plan(contract.Experiment.parse(clean)), problem


def _usable(name: str, value: Any) -> bool:
    if name in _TEXT:
        return isinstance(value, str)
    if name in _WHOLE:
        return _number(value) is not None
    if name == "metric":
        return isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values())
    if name in (*_TABLES, *_NUMBERS):
        return isinstance(value, Mapping)
    return True


def _number(value: Any) -> float | None:
    number = contract.number_in(value)
    return number if number is not None and math.isfinite(number) else None
