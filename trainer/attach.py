"""`trainer eval`: a checkpoint is examined, and what was found is attached to exactly that checkpoint, by its hash."""

from __future__ import annotations

import hashlib
import math
import uuid
from pathlib import Path
from typing import Any

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
from trainer import fingerprints, known, spec
from trainer.checkpoints import files
from trainer.data import Data
from trainer.experiment import environment
from trainer.run import Run
from trainer.spec.data import Records, StdlibText, TextFile


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
        state, sha256 = files.load_named(path)
    except files.BadCheckpoint as error:
        raise spec.SpecError(str(error)) from None
    run = Run(options) if data is None else _examining(options, data)
    try:
        run.model.load_state_dict(state.get("ema") or state["model"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise spec.SpecError(f"{path}: holds no weights of this experiment's model ({reason})") from None
    examined = run.legs[-1].data
    found = run.evaluator(run.model, examined.val, "val_")
    told = {
        "name": "validation" if data is None else data.name,
        "hash": _hash(examined, data),
        "samples": len(examined.val),
    }
    entry = _entry(folder, experiment, path, sha256, told, found)
    entry["checkpoint"]["step"] = state.get("step")
    entry["fingerprints"]["environment"] = environment(options)
    append_line(folder / EVALUATIONS, entry, sync=True)
    _tell(entry, folder)
    return Exit.FINISHED if all(map(math.isfinite, found.values())) else Exit.FAILED


def _path(folder: Path, name: str) -> Path:
    """A checkpoint of the experiment by its name, or by its path: absolute, from the folder, or from where we are.

    Raises:
        SpecError: there is none; or it lies outside of the folder, where it may be another experiment's, or change
            without notice.
    """
    own = folder / CHECKPOINTS / f"{name}.pt"
    by_path = [path for path in (folder / name, Path(name)) if path.exists()]
    path = own if name in ("best", "last") or own.exists() else next(iter(by_path), folder / name)
    if not path.resolve().is_relative_to(folder.resolve()):
        why = f"lies outside of {folder}; only a checkpoint in there is the experiment's"
        raise spec.SpecError(f"--checkpoint {name}: {why}")
    if not path.exists():
        there = sorted(one.stem for one in (folder / CHECKPOINTS).glob("*.pt"))
        raise spec.SpecError(f"--checkpoint {name}: no {path}; there is {', '.join(there) or 'none yet'}")
    return path


def _examining(options: spec.Spec, path: Path) -> Run:
    """A run of the spec with `path` for the data that is held out.

    Raises:
        SpecError: it cannot be examined on that.
    """
    try:
        path.open("rb").close()
        return Run(_on(options, path))
    except OSError as error:
        raise spec.SpecError(f"--data {path}: cannot be read ({error.strerror})") from None
    except spec.SpecError as error:
        raise spec.SpecError(f"--data {path}: {str(error).removeprefix(f'--data {path}: ')}") from None


def _on(options: spec.Spec, path: Path) -> spec.Spec:
    """The spec with `path` for the data that is held out.

    Raises:
        SpecError: the experiment's kind of data does not come from a file.
    """
    source = options.data
    if isinstance(source, StdlibText):
        return options.model_copy(update={"data": TextFile(kind="text", path=str(path), val_path=str(path))})
    if isinstance(source, TextFile | Records):
        return options.model_copy(update={"data": source.model_copy(update={"val_path": str(path)})})
    raise spec.SpecError(f"--data {path}: data of the kind {source.kind!r} comes from no file")


def _hash(examined: Data, path: Path | None) -> str:
    """Of the bytes of the file; of the experiment's own data where there is none."""
    return examined.fingerprint if path is None else hashlib.sha256(path.read_bytes()).hexdigest()[:16]


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
    print(f"  {data['samples']:,} samples: {metrics}")
    print(f"next: checker promote {folder}")
