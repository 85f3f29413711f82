"""What `experiment.json` says about a run of a spec, and on which device it runs."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from contract import Experiment, config_hash
from trainer import fingerprints, spec, stages
from trainer.stages import Leg


def record(root: Path, options: spec.Spec, legs: Sequence[Leg]) -> Experiment:
    """The record of an experiment that is about to be minted in `root`; its id comes with its folder."""
    return Experiment(
        **spec.facts(options),
        schedule=stages.declared(legs),
        total_steps=legs[-1].last,
        total_epochs=options.train.epochs if len(legs) == 1 else None,
        fingerprints={**runs_on(root, options, legs), "environment": environment(options)},
    )


def runs_on(root: Path, options: spec.Spec, legs: Sequence[Leg]) -> dict[str, Any]:
    """The fingerprints of what a run of `options` depends on, as it is now; changes below `root` do not count."""
    hashes = list(dict.fromkeys(leg.data.fingerprint for leg in legs))
    joined = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]
    samples = sum({leg.data.fingerprint: len(leg.data.train) + len(leg.data.val) for leg in legs}.values())
    return {
        "config": config_hash(spec.config(options)),
        "code": fingerprints.code(Path.cwd(), without=root),
        "data": {"hash": joined, "samples": samples},
    }


def environment(options: spec.Spec) -> dict[str, Any]:
    """Where it runs: device, versions, packages, and whether torch may only use deterministic algorithms."""
    device = device_name(choose_device(options.device))
    return {**fingerprints.environment(), "device": device, "deterministic": options.deterministic}


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
