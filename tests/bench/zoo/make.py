"""Trains the zoo: thousands of real runs of real models, sick ones, healthy ones, and the healthy ones' odd habits.

    python tests/bench/zoo/make.py [--split tune …] [--only PART] [--jobs N]

Writes `runs/<split>/<run>.jsonl` as the program's logger would, and `runs/<split>.labels.jsonl` with what became of each.
Everything follows from the names of the programs: the same machine and torch make the same runs again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import labels  # noqa: E402  # after the path that makes the zoo's modules importable
from loggers import LOGGERS, Look, Plan  # noqa: E402
from programs import PROGRAMS, Program  # noqa: E402
from train import Member, Truth, train  # noqa: E402
from twists import FAULTS, ODDITIES, Story  # noqa: E402

RUNS = HERE / "runs"

PLAIN, ODD, FAULTY = 44, 44, 52
"""Members of every program. Each faulty one has a plain one for a twin."""

UNSUPERVISED = frozenset({"autoencoder", "gaussian-autoencoder", "vae", "denoiser", "contrastive", "gan"})
LOG_OF_CHANCE = frozenset({"naive-mlp", "autoencoder"})
NEVER_FALLS = frozenset({"gan", "policy"})
"""Objectives whose loss is not meant to fall."""
SHOWS_NO_LR = frozenset({"loss-only", "nano-10"})
SHOWS_NO_VAL = frozenset({"loss-only"})


def applies(program: Program, name: str) -> bool:
    """Whether the fault or oddity means anything to this program."""
    text = program.data == "text"
    return not (
        (program.model in UNSUPERVISED and "label" in name)
        or (program.model in UNSUPERVISED and name in ("more-data-noise", "data-mix", "curriculum"))
        or (text and name in ("bad-batch", "nan-batch", "unscaled", "unscaled-from-then", "spike", "dead-relu"))
        or (name == "log-zero" and program.model not in LOG_OF_CHANCE)
        or (name == "fp16-overflow" and not program.half)
        or (name == "no-clip" and not program.clip)
        or (name == "dead-relu" and program.model in ("linear", "linear-regression", "gan"))
        or (name == "frozen" and program.model in ("linear", "linear-regression"))
        or (name == "unfreezing" and program.model in ("linear", "linear-regression"))
    )


def members(program: Program) -> list[Member]:
    """The runs of a program: plain ones, odd ones, and faulty twins of the plain ones."""
    chance = random.Random(program.name)
    rates = [chance.uniform(0.5, 1.5) for _ in range(PLAIN + ODD)]
    odd = [recipe for name, recipe in ODDITIES.items() if applies(program, name)]
    bad = [recipe for name, recipe in FAULTS.items() if applies(program, name)]
    plain = [Member(Story(), seed, rates[seed]) for seed in range(PLAIN)]
    strange = [Member(odd[k % len(odd)](chance), PLAIN + k, rates[PLAIN + k]) for k in range(ODD)]
    sick = [Member(bad[k % len(bad)](chance), k % PLAIN, rates[k % PLAIN], twin=k % PLAIN) for k in range(FAULTY)]
    return plain + strange + sick


def looks(truth: Truth, column: int) -> list[Look]:
    """What happened to one member, in the order of time."""
    evaluated = {at: truth.val[row, column].item() for row, at in enumerate(truth.val_at)}
    active = truth.active[:, column].tolist()
    columns = [getattr(truth, name)[:, column].tolist() for name in ("step", "train", "grad", "lr")]
    return [
        Look(step + 1, train, grad, lr, evaluated.get(now))
        for now, (step, train, grad, lr) in enumerate(zip(*columns, strict=True))
        if active[now]
    ]


def fate(truth: Truth, column: int, steps: int) -> labels.Fate:
    active = truth.active[:, column].numpy()
    train = np.full(steps, np.nan)
    train[truth.step[:, column].numpy()[active]] = truth.train[:, column].numpy()[active]
    kept = [row for row, at in enumerate(truth.val_at) if active[at]]
    at = truth.step[:, column].numpy()[[truth.val_at[row] for row in kept]]
    return labels.Fate(train, truth.val[kept, column].numpy(), at, bool(truth.sound[column]))


def logged(program: Program, folder: Path) -> None:
    """Trains one program, writes its logs, and keeps what really happened beside them."""
    truth_file = folder / f"{program.name}.npz"
    if truth_file.exists():
        return
    torch.set_num_threads(1)
    began = time.monotonic()
    crowd = members(program)
    truth = train(program, crowd, zlib.crc32(program.name.encode()))
    kept: dict[str, np.ndarray] = {}
    for column, member in enumerate(crowd):
        rows = LOGGERS[program.logger](looks(truth, column), Plan(program.steps, program.name))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{run_name(program, column, member)}.jsonl").write_text(text)
        mine = fate(truth, column, program.steps)
        kept |= {f"train{column}": mine.train, f"val{column}": mine.val, f"at{column}": mine.val_steps}
    np.savez_compressed(truth_file, sound=truth.sound.numpy(), **kept)
    print(f"{program.name}: {time.monotonic() - began:.0f} s", flush=True)


def labelled(program: Program, split: str, folder: Path) -> list[dict[str, Any]]:
    """What became of each run of a program that has been trained."""
    kept = np.load(folder / f"{program.name}.npz")
    crowd = members(program)
    fates = [
        labels.Fate(kept[f"train{row}"], kept[f"val{row}"], kept[f"at{row}"], bool(kept["sound"][row]))
        for row in range(len(crowd))
    ]
    program_of = labels.Traits(
        falls=program.model not in NEVER_FALLS,
        shows_lr=program.logger not in SHOWS_NO_LR,
        shows_val=program.logger not in SHOWS_NO_VAL,
    )
    entries = []
    for column, (member, mine) in enumerate(zip(crowd, fates, strict=True)):
        story = member.story
        if member.twin is None:
            label = labels.of_healthy(mine, story.name, program_of)
        else:
            label = labels.of_faulty(
                mine, fates[member.twin], story.name, round(story.begin * program.steps), program_of
            )
        name = run_name(program, column, member)
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        entries.append(entry(program, split, name, member, label, rows))
    return entries


def run_name(program: Program, column: int, member: Member) -> str:
    return f"{program.name}-{column:03d}-{member.story.name}"


def entry(
    program: Program, split: str, name: str, member: Member, label: labels.Label, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    steps = [row.get("step", row.get("global_step", row.get("iter", row.get("iteration")))) for row in rows]
    onset_row = None
    if label.onset is not None:
        share = label.onset / program.steps
        onset_row = next((i for i, step in enumerate(steps) if step is not None and step >= label.onset), len(rows) - 1)
        if all(step is None for step in steps):
            onset_row = min(len(rows) - 1, int(share * len(rows)))
    kind = label.label
    if kind == "nan" and not any(_non_finite(row) for row in rows):
        kind = "hidden_nan"
    return {
        "id": name, "label": kind, "program": program.name, "split": split, "story": member.story.name,
        "onset_row": onset_row, "onset_step": label.onset, "total_rows": len(rows), "reason": label.reason,
    }  # fmt: skip


def _non_finite(row: dict[str, Any]) -> bool:
    values = {**row, **row.get("metrics", {})}
    return any("loss" in key and value is not None and not np.isfinite(value) for key, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", nargs="*", choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--only", default="", help="only programs whose name contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=RUNS)
    options = parser.parse_args()
    for split in options.split:
        folder = options.output / split
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [program for program in PROGRAMS[split] if options.only in program.name]
        with ProcessPoolExecutor(options.jobs) as pool:
            list(pool.map(logged, wanted, [folder] * len(wanted)))
            found = pool.map(labelled, wanted, [split] * len(wanted), [folder] * len(wanted))
            told = [entry for entries in found for entry in entries]
        with (options.output / f"{split}.labels.jsonl").open("w") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in told)
        print(split, dict(Counter(entry["label"] for entry in told)), flush=True)


if __name__ == "__main__":
    main()
