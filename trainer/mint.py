"""A new experiment: a folder of its own, with the record of what is tried in it and on what ground.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import os
import re
from contextlib import suppress
from pathlib import Path

from contract import ENVIRONMENT, EXPERIMENT, FORMAT, HYPOTHESIS, SWEEP, Experiment, encode, replace
from trainer import fingerprints


def claim(root: Path) -> Path:
    """The folder `exp-NNN` after the last one. Creating a folder is atomic, so no two processes get the same number.

    Raises:
        OSError: nothing can be created there.
    """
    root.mkdir(parents=True, exist_ok=True)
    taken = [int(found[1]) for path in root.iterdir() if (found := re.fullmatch(r"exp-(\d+)", path.name))]
    number = max(taken, default=0)
    while True:
        number += 1
        with suppress(FileExistsError):
            folder = root / f"exp-{number:03d}"
            folder.mkdir()
            return folder


def mint(root: Path, experiment: Experiment, note: bytes | None = None) -> Path:
    """Creates the folder of a new experiment with its record, which gets the folder's name for an id.

    Args:
        root: where the folder is created.
        experiment: the record.
        note: the `hypothesis.md` that the record was made from, kept beside it as it is.

    Raises:
        OSError: nothing can be created there; nothing is left behind.
    """
    folder = claim(root)
    environment = {"v": FORMAT, **fingerprints.environment(), "packages": fingerprints.packages()}
    try:
        replace(folder / ENVIRONMENT, encode(environment, indent=1))
        if note is not None:
            replace(folder / HYPOTHESIS, note)
        record = dataclasses.replace(experiment, id=folder.name, sweep=experiment.sweep or os.environ.get(SWEEP, ""))
        replace(folder / EXPERIMENT, encode(dataclasses.asdict(record), indent=1))
    except OSError:
        with suppress(OSError):
            for name in (ENVIRONMENT, HYPOTHESIS):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
        raise
    return folder
