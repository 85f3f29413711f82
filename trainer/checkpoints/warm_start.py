"""Begin with what another run has learned: which run, and what of it fits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contract import CHECKPOINTS, RESULT, Experiment, State, StatusFile, Unreadable, number_in, run_state
from trainer import spec
from trainer.checkpoints import files
from trainer.document import read_object
from trainer.errors import SpecError
from trainer.known import find, read_record

_ASIDE = ("seed", "device", "tiers", "budget", "rehearsal", "warm_start", "mirrors", "callbacks", "checkpoints")
"""Settings that say nothing about what a run has learned."""


@dataclass(frozen=True)
class Donor:
    """A checkpoint to begin with."""

    path: Path
    why: str


def donor(wanted: spec.Spec, root: Path) -> Donor:
    """The checkpoint that the spec asks to begin with.

    Args:
        wanted: has a `warm_start`.
        root: where the experiments lie.

    Raises:
        SpecError: there is none.
    """
    assert wanted.warm_start is not None
    source, least = wanted.warm_start.source, wanted.warm_start.minimum_similarity
    if source != "similar":
        path = Path(source)
        if path.is_file():
            return Donor(path, str(path))
        folder = find(path, root)
        return Donor(_best(folder), f"{folder.name}, as the spec says")
    ranked = sorted(_finished(root, wanted), key=lambda one: (-one[0], one[1], str(one[2])))
    if not ranked or ranked[0][0] < least:
        near = f"; the nearest is {ranked[0][2].name} with {ranked[0][0]:.2f}" if ranked else ""
        raise SpecError(f"warm_start.source = 'similar': no finished experiment in {root} is {least} alike{near}")
    likeness, _, folder = ranked[0]
    return Donor(_best(folder), f"{folder.name}, whose settings are {likeness:.2f} alike")


def _best(folder: Path) -> Path:
    for name in (files.BEST, files.LAST):
        path = folder / CHECKPOINTS / f"{name}.pt"
        if path.exists():
            return path
    raise SpecError(f"warm_start.source: {folder} has no checkpoint")


def _finished(root: Path, wanted: spec.Spec) -> Iterator[tuple[float, float, Path]]:
    """How alike each completed experiment is, how far its metric is from the best there can be, and its folder."""
    mine, metric = dict(_settings(spec.config(wanted))), wanted.metric
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        with suppress(SpecError, OSError, Unreadable):
            experiment, document = read_record(folder), StatusFile(folder).read()
            if document is None or run_state(document) is not State.COMPLETED:
                continue
            if any((folder / CHECKPOINTS / f"{name}.pt").exists() for name in (files.BEST, files.LAST)):
                value = _value(folder, experiment, metric.name)
                cost = math.inf if value is None else value if metric.direction == "min" else -value
                yield similarity(mine, dict(_settings(experiment.config))), cost, folder


def _value(folder: Path, experiment: Experiment, name: str) -> float | None:
    if experiment.metric.get("name") != name:
        return None
    value = number_in(read_object(folder / RESULT).get("primary_metric", {}).get("value"))
    return value if value is not None and math.isfinite(value) else None


def similarity(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Settings that are the same in both, of all settings of either: from 0 to 1; 0 where there are none."""
    keys = one.keys() | other.keys()
    same = sum(key in one and key in other and one[key] == other[key] for key in keys)
    return same / len(keys) if keys else 0.0


def _settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if not prefix and key in _ASIDE:
            continue
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def restore(model: nn.Module, state: files.State) -> list[str]:
    """Loads the weights that fit; returns a sentence about what was restored, and one about what was not, with why.

    Raises:
        SpecError: nothing fits.
    """
    found, mine = state.get("ema") or state.get("model"), model.state_dict()
    theirs: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    fit = {name: theirs[name] for name in mine if _shape(theirs.get(name)) == mine[name].shape}
    if not fit:
        raise SpecError("warm_start: none of the checkpoint's weights fits this model")
    model.load_state_dict(fit, strict=False)
    told = [f"{len(fit)} of {len(mine)} tensors restored"]
    for name, value in mine.items():
        if name not in theirs:
            told.append(f"{name} begins anew: the checkpoint has none")
        elif _shape(theirs[name]) is None:
            told.append(f"{name} begins anew: the checkpoint has no tensor for it")
        elif name not in fit:
            told.append(f"{name} begins anew: its shape is {tuple(value.shape)}, there {tuple(theirs[name].shape)}")
    told += [f"{name} is left out: this model has none" for name in theirs if name not in mine]
    return told


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None
