"""Trains the zoo: thousands of real runs of real models, sick ones, healthy ones, and the healthy ones' odd habits.

    python tests/bench/zoo/make.py [--split tune …] [--only PART] [--jobs N]

Writes `runs/<split>/<run>.jsonl` as the program's logger would, and `runs/<split>.labels.jsonl` with what became of
each. Everything follows from the names of the programs: the same machine and torch make the same runs again.
README.md beside this file says what the words mean.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from entries import entries  # noqa: E402  # after the path that makes the zoo's modules importable
from loggers import LOGGERS, Plan  # noqa: E402
from members import members, run_name  # noqa: E402
from programs import PROGRAMS, Program  # noqa: E402
from train import train  # noqa: E402

RUNS = HERE / "runs"


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
        rows = LOGGERS[program.logger](truth.looks(column), Plan(program.steps, program.name))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{run_name(program, column, member)}.jsonl").write_text(text)
        mine = truth.fate(column, program.steps)
        kept |= {f"train{column}": mine.train, f"val{column}": mine.val, f"at{column}": mine.val_steps}
    np.savez_compressed(truth_file, sound=truth.sound.numpy(), **kept)
    print(f"{program.name}: {time.monotonic() - began:.0f} s", flush=True)


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
            found = pool.map(entries, wanted, [split] * len(wanted), [folder] * len(wanted))
            told = [entry for program in found for entry in program]
        with (options.output / f"{split}.labels.jsonl").open("w") as file:
            file.writelines(json.dumps(entry) + "\n" for entry in told)
        print(split, dict(Counter(entry["label"] for entry in told)), flush=True)


if __name__ == "__main__":
    main()
