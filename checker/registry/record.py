"""The documents of one experiment, read without trusting them: a missing or damaged one is empty, and named."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import contract
from checker.registry.catalog import in_force, mapping, read_object
from checker.registry.files import content, stamp

Document = dict[str, Any]

WORDS = ("name", "hypothesis", "rationale", "parent", "tags")
"""Keys of a configuration that say something about a run, and do nothing to it."""


@dataclass(frozen=True)
class Record:
    """What the files of one experiment hold."""

    folder: Path
    experiment: Document = field(default_factory=dict)
    status: Document = field(default_factory=dict)
    result: Document = field(default_factory=dict)
    evaluations: tuple[Document, ...] = ()
    promotions: tuple[Document, ...] = ()
    faults: tuple[str, ...] = ()
    """Files that are there and cannot be read, and lines that are none."""

    @property
    def config(self) -> Document:
        return dict(mapping(self.experiment.get("config")))

    @property
    def promoted(self) -> Document | None:
        """The promotion in force, or None."""
        acts = [act for act in self.promotions if act.get("kind") in ("promoted", "revoked")]
        return acts[-1] if acts and in_force(acts[-1]) else None


def read(folder: Path) -> Record:
    """Everything that stands in the folder of one experiment."""
    faults: list[str] = []
    return Record(
        folder,
        experiment=_object(folder / contract.EXPERIMENT, faults),
        status=_object(folder / contract.STATUS, faults),
        result=_object(folder / contract.RESULT, faults),
        evaluations=tuple(_lines(folder / contract.EVALUATIONS, faults)),
        promotions=tuple(_lines(folder / contract.PROMOTIONS, faults)),
        faults=tuple(faults),
    )


def _object(path: Path, faults: list[str]) -> Document:
    try:
        return read_object(str(path)) if stamp(str(path)) is not None else {}
    except contract.Unreadable as error:
        faults.append(str(error).replace(f"{path.parent}/", ""))
    except OSError as error:
        faults.append(f"{path.name}: cannot be read ({error.strerror or error})")
    return {}


def _lines(path: Path, faults: list[str]) -> Iterator[Document]:
    try:
        text = content(path) or b""
    except contract.Unreadable as error:
        faults.append(str(error).replace(f"{path.parent}/", ""))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield contract.decode_object(line, path.name)
        except contract.Unreadable:
            faults.append(f"{path.name}:{number}: is no JSON object")


# ------------------------------------------------------------------------------------------------ configurations


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a configuration under its dotted key, without the words about it; a list is one value."""
    for key, value in config.items():
        if not prefix and key in WORDS:
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", tuple(value) if isinstance(value, list) else value


def config_of(folder: str) -> Mapping[str, Any]:
    """The configuration of an experiment as dotted keys; empty where there is none to read."""
    path = f"{folder}/{contract.EXPERIMENT}"
    try:
        found = stamp(path)
        return _config_in(path, found) if found else {}
    except (OSError, contract.Unreadable):
        return {}


@lru_cache(maxsize=1 << 14)
def _config_in(path: str, _stamp: contract.Stamp) -> Mapping[str, Any]:
    return dict(flat(mapping(read_object(path).get("config"))))


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, each with both values; None stands for a setting that is not there."""
    keys = dict.fromkeys((*before, *after))
    return {key: (before.get(key), after.get(key)) for key in keys if not same(before.get(key), after.get(key))}


def same(one: Any, other: Any) -> bool:
    """Whether two settings are one: 1 and 1.0 are, true and 1 are not, and numbers may differ in their last digit."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


# ---------------------------------------------------------------------------------------- what makes two runs the same

_NO_PART = ("rehearsal.", "tiers.", "budget.", "mirrors")
"""Settings that stage a fault, say what is asked of a run or allowed to it, or where else it is shown: they do not
change what it learns."""


def core(config: Mapping[str, Any]) -> str:
    """A hash of a flat configuration by which two runs that do the same are told: 16 hex digits."""
    told = sorted((key, _spelled(value)) for key, value in config.items() if not key.startswith(_NO_PART))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _spelled(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return repr(value)
    return f"{value:.9g}"


def core_of(folder: str) -> str | None:
    """The `core` of an experiment on disk; None where it has no configuration."""
    path = f"{folder}/{contract.EXPERIMENT}"
    try:
        found = stamp(path)
        return _core_in(path, found) if found else None
    except (OSError, contract.Unreadable):
        return None


@lru_cache(maxsize=1 << 16)
def _core_in(path: str, _stamp: contract.Stamp) -> str | None:
    config = dict(flat(mapping(read_object(path).get("config"))))
    return core(config) if config else None


def laid_over(config: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A flat configuration with a change laid over it; of `train.steps` and `train.epochs` one replaces the other."""
    result = {**config, **change}
    for one, other in (("train.steps", "train.epochs"), ("train.epochs", "train.steps")):
        if one in change and other in result and other not in change:
            result[other] = None
    return result
