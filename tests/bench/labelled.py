"""Labelled runs in groups: which may not be stopped, which should be, and how they are split for tuning and scoring."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import contract
from checker import backtest

QUIET = frozenset({"healthy", "spike_recovered"})
"""Nothing needs to be said about these."""

SHIFTED = frozenset({"shifted", "harmless"})
"""Runs that must live, and of which a person may want to hear: their loss rose as data or objective changed, or a fault
was really put in and did no lasting harm."""

MUST_LIVE = QUIET | SHIFTED
"""Stopping one of these is the fault that matters."""

HARD = frozenset({"nan", "hidden_nan", "explosion", "diverged", "dead_lr", "stall"})
"""Broken beyond doubt: to be found by everyone."""

SOFT = frozenset({"overfit", "oscillation", "plateau", "stuck_at_chance", "drift"})
"""Worth an alert."""

UNSCORED = frozenset({"unclear"})

SPLITS = ("tune", "validate", "test")
PUBLIC = "public"


class Run(NamedTuple):
    """One recorded run and what is known about it."""

    id: str
    path: Path
    label: str
    program: str
    """Model, data, optimizer and logger together: what must not be on both sides of a split."""
    split: str = PUBLIC
    onset: int | None = None
    total_rows: int | None = None


class Group(NamedTuple):
    """Runs that are counted together."""

    name: str
    runs: list[Run]
    missing: int = 0
    """Labels without a file."""
    tuned: bool = True
    """Whether tuned limits are scored on it too; not where that would flatter them without saying so."""


def zoo(folder: Path) -> list[Group]:
    """A group for each split of the zoo that is there: `<split>.labels.jsonl` beside the folder `<split>`."""
    found = []
    for split in SPLITS:
        labels = folder / f"{split}.labels.jsonl"
        if labels.exists():
            found.append(group(split, folder / split, labels))
    return found


def group(name: str, folder: Path, labels: Path) -> Group:
    """The labelled runs in `folder`; a label of no known class is an error, not an unscored run.

    Raises:
        ValueError: a label is in no class, or the label file cannot be read.
    """
    runs, missing = [], 0
    for id_, entry in backtest.read_labels(labels).items():
        label = entry["label"]
        if label not in MUST_LIVE | HARD | SOFT | UNSCORED:
            raise ValueError(f"{labels}: {id_} has the label {label!r}, which is in none of the classes")
        path = _place(folder, id_)
        if path is None:
            missing += 1
        else:
            runs.append(_run(id_, path, entry, name))
    return Group(name, sorted(runs), missing)


def _place(folder: Path, id_: str) -> Path | None:
    if (folder / id_ / contract.METRICS).exists():
        return folder / id_
    file = folder / f"{id_}.jsonl"
    return file if file.exists() else None


def _run(id_: str, path: Path, entry: Any, name: str) -> Run:
    source = entry.get("source")
    program = entry.get("program") or (source.get("repo") if isinstance(source, dict) else None) or id_
    split = entry.get("split") or (name if name in SPLITS else PUBLIC)
    return Run(id_, path, entry["label"], str(program), split, entry.get("onset_row"), entry.get("total_rows"))


def halves(group: Group) -> tuple[Group, Group]:
    """A group cut in two by program, so that no program is on both sides."""
    sides: tuple[list[Run], list[Run]] = ([], [])
    for run in group.runs:
        sides[_hash(run.program) % 2].append(run)
    return Group(f"{group.name}, tuning half", sides[0]), Group(f"{group.name}, scored half", sides[1])


def sample(runs: Sequence[Run], most: int) -> list[Run]:
    """At most `most` of `runs`, the same ones every time, in their order."""
    return sorted(sorted(runs, key=lambda run: _hash(run.id))[:most])


def programs(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.program, []).append(run)
    return found


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
