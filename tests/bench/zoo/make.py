"""Trains the zoo: thousands of real runs of real models, sick ones, healthy ones, and the healthy ones' odd habits.

    python tests/bench/zoo/make.py [--split tune …] [--only PART] [--jobs N] [--keep]

Writes `runs/<split>/<run>.jsonl` as the program's logger would, and `runs/<split>.labels.jsonl` with what became of
each. Everything follows from the names of the programs: the same machine and torch make the same runs again. What was
made before and has not changed since is kept, so an interrupted call is simply repeated.
README.md beside this file says what the words mean.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import keep  # noqa: E402  # after the path that makes the zoo's modules importable
from entries import entries  # noqa: E402
from loggers import LOGGERS, Plan  # noqa: E402
from members import members, run_name  # noqa: E402
from origin import current, fingerprint  # noqa: E402
from programs import PROGRAMS, Program  # noqa: E402
from train import train  # noqa: E402

RUNS = HERE / "runs"


def made(program: Program, folder: Path) -> None:
    """Trains one program and writes its logs, unless that was done; the `.npz` appears when everything is there."""
    if current(program, folder):
        return
    torch.set_num_threads(1)
    began = time.monotonic()
    truth_file = folder / f"{program.name}.npz"
    truth_file.unlink(missing_ok=True)
    for old in folder.glob(f"{glob.escape(program.name)}-[0-9][0-9][0-9]-*.jsonl"):
        old.unlink()
    crowd = members(program)
    truth = train(program, crowd, zlib.crc32(program.name.encode()))
    kept: dict[str, np.ndarray] = {"sound": truth.sound.numpy(), "fingerprint": np.array(fingerprint(program))}
    for column, member in enumerate(crowd):
        rows = LOGGERS[program.logger](truth.looks(column), Plan(program.steps, program.name))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{run_name(program, column, member)}.jsonl").write_text(text)
        mine = truth.fate(column, program.steps)
        kept |= {f"train{column}": mine.train, f"val{column}": mine.val, f"at{column}": mine.val_steps}
    with replaced(truth_file) as file:
        np.savez_compressed(file, **kept)
    print(f"{program.name}: {time.monotonic() - began:.0f} s", flush=True)


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        yield file
    partial.replace(path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--only", default="", help="train only programs whose name contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=RUNS)
    parser.add_argument("--keep", action="store_true", help=f"write {keep.KEPT.name} anew from what is there")
    return parser.parse_args()


def split_made(split: str, only: str, output: Path, pool: Executor) -> None:
    """Trains what is missing or outdated, then labels every program of the split that is there."""
    folder = output / split
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [program for program in PROGRAMS[split] if only in program.name]
    list(pool.map(made, wanted, [folder] * len(wanted)))
    there = [program for program in PROGRAMS[split] if program in wanted or current(program, folder)]
    found = pool.map(entries, there, [split] * len(there), [folder] * len(there))
    told = [entry for program in found for entry in program]
    with replaced(output / f"{split}.labels.jsonl") as file:
        file.writelines(json.dumps(entry).encode() + b"\n" for entry in told)
    print(split, dict(Counter(entry["label"] for entry in told)), flush=True)


def main() -> None:
    options = arguments()
    if find_spec("sklearn") is None:
        sys.exit(
            "the zoo trains on data that come with scikit-learn, which is not installed here: "
            "say `make zoo`, or install the extra `bench`"
        )
    with ProcessPoolExecutor(options.jobs) as pool:
        for split in options.split:
            split_made(split, options.only, options.output, pool)
        if options.keep:
            count = keep.keep(options.output, pool)
            print(f"{keep.KEPT}: {count} runs, {keep.KEPT.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
