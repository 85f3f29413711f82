"""`trainer eval`: a checkpoint is examined, and what was found is attached to exactly that checkpoint, by its hash."""

from __future__ import annotations

import hashlib
import math
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contract import (
    CHECKPOINTS,
    EVALUATIONS,
    EXPERIMENT,
    FORMAT,
    Exit,
    Experiment,
    append_line,
    config_hash,
    now,
    number_out,
)
from trainer import checkpoint, fingerprints, known, spec
from trainer.data import Text, windows_in
from trainer.evaluate import evaluate
from trainer.experiment import environment
from trainer.loop import Run


def attach(folder: Path, name: str, data: Path | None) -> Exit:
    """Evaluates a checkpoint on all of the data and appends the finding to `evaluations.jsonl`.

    Args:
        folder: the experiment's.
        name: `best`, `last`, or the path of a checkpoint in the folder.
        data: a text file; None for the validation text of the experiment's own spec.

    Raises:
        SpecError: there is no such checkpoint, it lies elsewhere, it is damaged, or the data cannot be read.
    """
    experiment = known.read_record(folder)
    options = spec.build(dict(experiment.config), where=str(folder / EXPERIMENT))
    path = _path(folder, name)
    try:
        state, sha256 = checkpoint.load_named(path)
    except checkpoint.BadCheckpoint as error:
        raise spec.SpecError(str(error)) from None
    text = Text.load(options.data)
    examined, told = (text.val, _validation(text, options)) if data is None else _file(data, options)
    run = Run(options, text)
    try:
        run.model.load_state_dict(state["model"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise spec.SpecError(f"{path}: holds no weights of this experiment's model ({reason})") from None
    everything = options.train.model_copy(update={"eval_batches": len(examined)})
    found = evaluate(run.model, examined, options.model_copy(update={"train": everything}), run.precision, run.device)
    entry = _entry(folder, experiment, path, sha256, told, found)
    entry["checkpoint"]["step"] = state.get("step")
    entry["fingerprints"]["environment"] = environment(options.device)
    append_line(folder / EVALUATIONS, entry, sync=True)
    _tell(entry, folder)
    return Exit.FINISHED if all(map(math.isfinite, found.values())) else Exit.FAILED


def _path(folder: Path, name: str) -> Path:
    """A checkpoint of the experiment by its name, or by its path: absolute, from the folder, or from where we are.

    Raises:
        SpecError: it lies outside of the folder, where it may be another experiment's, or change without notice.
    """
    own = folder / CHECKPOINTS / f"{name}.pt"
    by_path = [path for path in (folder / name, Path(name)) if path.exists()]
    path = own if name in ("best", "last") or own.exists() else next(iter(by_path), folder / name)
    if not path.resolve().is_relative_to(folder.resolve()):
        why = f"lies outside of {folder}; only a checkpoint in there is the experiment's"
        raise spec.SpecError(f"--checkpoint {name}: {why}")
    return path


def _validation(text: Text, options: spec.Spec) -> dict[str, Any]:
    content = bytes(text.val.to(torch.uint8).numpy())
    return _described("validation", content, text.val, options)


def _file(path: Path, options: spec.Spec) -> tuple[Tensor, dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise spec.SpecError(f"--data {path}: cannot be read ({error.strerror})") from None
    tokens = torch.frombuffer(bytearray(content), dtype=torch.uint8).long() if content else torch.zeros(0).long()
    wanted = options.context + 1
    if len(content) < wanted:
        raise spec.SpecError(f"--data {path}: has {len(content)} bytes, one window of the model takes {wanted}")
    return tokens, _described(path.name, content, tokens, options)


def _described(name: str, content: bytes, tokens: Tensor, options: spec.Spec) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()[:16]
    return {"name": name, "hash": digest, "samples": windows_in(tokens, options.context)}


def _entry(
    folder: Path, experiment: Experiment, path: Path, sha256: str, data: dict[str, Any], found: dict[str, float]
) -> dict[str, Any]:
    metric = experiment.metric
    return {
        "v": FORMAT,
        "id": f"eval-{uuid.uuid4().hex[:8]}",
        "at": now(),
        "experiment_id": experiment.id,
        "checkpoint": {
            "path": path.resolve().relative_to(folder.resolve()).as_posix(),
            "sha256": sha256,
        },
        "data": data,
        "metric": {"name": metric.get("name"), "direction": metric.get("direction")},
        "metrics": {name: number_out(value) for name, value in found.items()},
        "fingerprints": {
            "config": config_hash(experiment.config),
            "code": fingerprints.code(Path.cwd(), without=folder.parent),
        },
    }


def _tell(entry: dict[str, Any], folder: Path) -> None:
    data, metrics = entry["data"], ", ".join(f"{name} {value}" for name, value in entry["metrics"].items())
    print(f"{entry['id']}: {entry['experiment_id']} {entry['checkpoint']['path']} on {data['name']}", flush=True)
    print(f"  {data['samples']:,} windows: {metrics}")
    print(f"next: checker promote {folder}")
