"""What `experiment.json` says about a run of a spec, and on which device it runs."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from contract import Experiment, config_hash
from trainer import fingerprints, optim, spec
from trainer.data import Loader, Position, Text


def total_steps(options: spec.Spec, text: Text) -> int:
    """How many optimizer steps the spec asks for, be it in steps or in epochs."""
    groups = Loader(text.train, options, Position()).groups_per_epoch
    return options.train.steps or (options.train.epochs or 1) * groups


def record(root: Path, options: spec.Spec, text: Text) -> Experiment:
    """The record of an experiment that is about to be minted in `root`; its id comes with its folder."""
    steps = total_steps(options, text)
    return Experiment(
        **spec.facts(options),
        schedule=optim.declared(options, steps),
        total_steps=steps,
        total_epochs=options.train.epochs,
        fingerprints={**runs_on(root, options, text), "environment": environment(options.device)},
    )


def runs_on(root: Path, options: spec.Spec, text: Text) -> dict[str, Any]:
    """The fingerprints of what a run of `options` depends on, as it is now; changes below `root` do not count."""
    return {
        "config": config_hash(spec.config(options)),
        "code": fingerprints.code(Path.cwd(), without=root),
        "data": {"hash": text.fingerprint, "samples": text.samples(options.context)},
    }


def environment(device: str) -> dict[str, Any]:
    return {**fingerprints.environment(), "device": device_name(choose_device(device))}


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
