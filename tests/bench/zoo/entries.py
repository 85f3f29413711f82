"""The table of labels: one entry for each run of a program that has been trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import labels
import numpy as np
from labels import Fate, Label, Traits
from loggers import Row
from members import Member, members, run_name
from programs import Program

NEVER_FALLS = frozenset({"gan", "policy"})
"""Objectives whose loss is not meant to fall."""

SHOWS_NO_LR = frozenset({"loss-only", "nano-10"})
SHOWS_NO_VAL = frozenset({"loss-only"})

STEP_NAMES = ("step", "global_step", "iter", "iteration")


def entries(program: Program, split: str, folder: Path) -> list[dict[str, Any]]:
    """What became of each run of a program whose logs and `.npz` are in `folder`."""
    with np.load(folder / f"{program.name}.npz") as kept:
        sound = kept["sound"]
        fates = [
            Fate(kept[f"train{row}"], kept[f"val{row}"], kept[f"at{row}"], bool(sound[row]))
            for row in range(len(sound))
        ]
    found = []
    for column, member in enumerate(members(program)):
        name = run_name(program, column, member)
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        label = _label(program, member, column, fates)
        found.append({
            "id": name, "label": _hidden(label, rows), "program": program.name, "split": split,
            "story": member.story.name, "onset_row": onset_row(label.onset, rows, program.steps),
            "onset_step": label.onset, "total_rows": len(rows), "reason": label.reason,
        })  # fmt: skip
    return found


def traits(program: Program) -> Traits:
    """What the program's objective does and its log shows."""
    return Traits(
        falls=program.model not in NEVER_FALLS,
        shows_lr=program.logger not in SHOWS_NO_LR,
        shows_val=program.logger not in SHOWS_NO_VAL,
    )


def _label(program: Program, member: Member, column: int, fates: list[Fate]) -> Label:
    story, fate = member.story, fates[column]
    if member.twin is None:
        return labels.of_healthy(fate, story.name, traits(program))
    begin = round(story.begin * program.steps)
    return labels.of_faulty(fate, fates[member.twin], story.name, begin, traits(program))


def onset_row(onset: int | None, rows: list[Row], steps: int) -> int | None:
    """The first row at or after step `onset`; where a log knows no steps, by its share of the run."""
    if onset is None:
        return None
    named = [next((row[name] for name in STEP_NAMES if name in row), None) for row in rows]
    last = len(rows) - 1
    if all(step is None for step in named):
        return min(last, int(onset / steps * len(rows)))
    return next((row for row, step in enumerate(named) if step is not None and step >= onset), last)


def _hidden(label: Label, rows: list[Row]) -> str:
    """The name of the label; a NaN that no loss of the log shows is a class of its own."""
    return "hidden_nan" if label.label == "nan" and not any(map(_non_finite, rows)) else label.label


def _non_finite(row: Row) -> bool:
    values = {**row, **row.get("metrics", {})}
    return any("loss" in name and value is not None and not math.isfinite(value) for name, value in values.items())
