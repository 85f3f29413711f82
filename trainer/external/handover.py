"""What `trainer exec` hands to a program: `spec.json`, with all that it has to know and the result it is to fill in.

Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from contract import FORMAT, RESULT, RESULT_PAGE, SPEC, Experiment, State, config_hash, encode, replace
from trainer.external.guard import MARK

Document = dict[str, Any]

VARIABLE = "TRAINER_SPEC"
"""The environment variable that holds the path of the spec file."""


def spec_of(folder: Path, experiment: Experiment, run_id: str) -> Document:
    """The content of `spec.json`. `result` is what `result.json` must look like; copy it and fill in the value."""
    known = {key: experiment.fingerprints[key] for key in ("code", "data") if experiment.fingerprints.get(key)}
    fingerprints = {"config": config_hash(experiment.config), **known}
    return {
        "v": FORMAT,
        "experiment_id": experiment.id,
        "run_id": run_id,
        "config": experiment.config,
        "metric": experiment.metric,
        "tiers": experiment.tiers,
        "budget": experiment.budget,
        "fingerprints": fingerprints,
        "folder": str(folder),
        "result_path": str(folder / RESULT),
        "result": {
            "experiment_id": experiment.id,
            "run_id": run_id,
            "fingerprints": {key: fingerprints[key] for key in ("config", "data") if key in fingerprints},
            "status": str(State.COMPLETED),
            "primary_metric": {**experiment.metric, "value": None},
            "secondary_metrics": {},
            "checkpoint": None,
            "failure_reason": None,
        },
    }


@contextmanager
def handed_over(folder: Path, spec: Document) -> Iterator[Path]:
    """The spec file, for as long as the block lasts.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / SPEC
    try:
        replace(path, encode(spec, indent=1))
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def filled_in(command: list[str], folder: Path) -> list[str]:
    """The command with `{spec}`, `{folder}` and `{result}` replaced by their paths; other braces stay as they are."""
    paths = {"{spec}": folder / SPEC, "{folder}": folder, "{result}": folder / RESULT}
    for name, path in paths.items():
        command = [word.replace(name, str(path)) for word in command]
    return command


def environment(folder: Path, run_id: str) -> dict[str, str]:
    """The program's environment. A Python program is asked to print at once, so that its last words are not lost."""
    return {"PYTHONUNBUFFERED": "1", **os.environ, VARIABLE: str(folder / SPEC), MARK: run_id}


def set_aside(folder: Path, why: str, run_id: str) -> str | None:
    """Renames a result that must not be taken for this run's; nothing is lost.

    Returns:
        The new name of `result.json`, or None where there was none.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = None
    for name in (RESULT, RESULT_PAGE):
        old = folder / name
        if os.path.lexists(old):
            new = old.with_name(f"{old.stem}.{why}-{run_id}{old.suffix}")
            os.replace(old, new)
            aside = new.name if name == RESULT else aside
    return aside
