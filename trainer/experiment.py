"""Minting an experiment: a folder of its own, and the record of what is tried in it and on what ground."""

from __future__ import annotations

import dataclasses
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from contract import EXPERIMENT, Experiment, config_hash, encode, now, replace
from trainer import optim, spec
from trainer.data import Loader, Position, Text


def total_steps(options: spec.Spec, text: Text) -> int:
    """How many optimizer steps the spec asks for, be it in steps or in epochs."""
    groups = Loader(text.train, options, Position()).groups_per_epoch
    return options.train.steps or (options.train.epochs or 1) * groups


def mint(root: Path, options: spec.Spec, text: Text) -> Path:
    """Creates the folder of a new experiment with its record; returns the folder."""
    folder = claim(root)
    replace(folder / EXPERIMENT, encode(dataclasses.asdict(record(folder.name, options, text)), indent=1))
    return folder


def claim(root: Path) -> Path:
    """The folder `exp-NNN` after the last one. Creating a folder is atomic, so no two processes get the same number."""
    root.mkdir(parents=True, exist_ok=True)
    taken = [int(found[1]) for path in root.iterdir() if (found := re.fullmatch(r"exp-(\d+)", path.name))]
    number = max(taken, default=0)
    while True:
        number += 1
        with suppress(FileExistsError):
            folder = root / f"exp-{number:03d}"
            folder.mkdir()
            return folder


def record(name: str, options: spec.Spec, text: Text) -> Experiment:
    """What `experiment.json` says about a run of `options`."""
    steps, config = total_steps(options, text), options.model_dump(mode="json")
    return Experiment(
        id=name,
        created_at=now(),
        name=options.name,
        parent=options.parent,
        hypothesis=options.hypothesis,
        rationale=options.rationale,
        config=config,
        metric=options.metric.model_dump(),
        tiers=options.tiers.model_dump(exclude_none=True),
        budget=options.budget.model_dump(exclude_none=True),
        schedule=optim.declared(options, steps),
        total_steps=steps,
        total_epochs=options.train.epochs,
        fingerprints=fingerprints(config, options.device, text),
    )


def fingerprints(config: Mapping[str, Any], device: str, text: Text) -> dict[str, Any]:
    """What a result depends on besides the config."""
    found = {
        "config": config_hash(config),
        "data": text.fingerprint,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "device": device_name(choose_device(device)),
        "git_commit": _git_commit(),
    }
    return {key: value for key, value in found.items() if value}


def choose_device(name: str) -> torch.device:
    """The device that the spec names; `auto` takes a GPU where there is one.

    Raises:
        SpecError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise spec.SpecError(f"device = {name!r}: torch sees {torch.cuda.device_count()} CUDA devices; try device=auto")
    return device


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type


def _git_commit() -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "rev-parse", "HEAD"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - fixed
        return answer.stdout.strip()
    return None
