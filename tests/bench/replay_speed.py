"""How fast a replay is with all rules on, next to parsing the same bytes and doing nothing; and what a run costs.

Usage: python tests/bench/replay_speed.py [ROWS]
"""

from __future__ import annotations

import gc
import json
import math
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed
sys.path.insert(0, str(Path(__file__).resolve().parent))

from latency import machine
from pydantic_core import from_json

import contract
from checker import replay
from checker.run import Run
from checker.terms import Mode, Moment

RESULT = Path(__file__).parent / "results" / "replay_speed.md"


def write_rows(path: Path, count: int, *, val_every: int = 0) -> None:
    """A run that learns, with the noise and the digits of a real one."""
    chance = random.Random(count)
    with path.open("w", encoding="utf-8") as file:
        for step in range(count):
            done = step / count
            loss = 0.6 + 1.9 * math.exp(-4 * done) + chance.gauss(0, 0.03)
            rate = 1e-3 * (0.55 + 0.45 * math.cos(math.pi * done))
            values = f'"step": {step}, "loss": {loss!r}, "lr": {rate!r}, "grad_norm": {abs(chance.gauss(1, 0.2))!r}'
            extra = f', "val_loss": {loss + 0.1!r}' if val_every and step % val_every == val_every - 1 else ""
            file.write(f"{{{values}{extra}}}\n")


def write_own_rows(path: Path, count: int) -> None:
    """The same run in our own format, with times as irregular as those of a real one."""
    write_rows(path, count, val_every=10)
    chance, at = random.Random(count), 1.7e9
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        metrics = json.loads(line)
        step = metrics.pop("step")
        at += chance.expovariate(2)
        row = {"v": 1, "run_id": "a", "event": "step", "step": step, "metrics": metrics, "timestamp": at}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def parse(path: Path) -> None:
    """The least that any reader has to do."""
    with path.open("rb") as file:
        for line in file:
            from_json(line)


def seconds(work: Callable[[Path], object], path: Path) -> float:
    """Processor time, since others use the machine too."""
    began = time.process_time()
    work(path)
    return time.process_time() - began


def speeds(path: Path, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of bare parsing and of a replay, in turn."""
    bare, full = [], []
    for _ in range(repeats):
        bare.append(seconds(parse, path))
        full.append(seconds(replay.read, path))
    return bare, full


def memory_per_run(folder: Path, runs: int, rows: int, *, own: bool = False) -> float:
    """Bytes that one watched run holds once its rows have been read."""
    first = folder / ("own" if own else "flat") / contract.METRICS
    first.parent.mkdir()
    if own:
        write_own_rows(first, rows)
    else:
        write_rows(first, rows, val_every=10)
    _watched(first.parent)  # what is made once for all runs is no run's
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [_watched(first.parent) for _ in range(runs)]
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held / len(kept)


def _watched(folder: Path) -> Run:
    run = Run(folder, folder.name, Mode.JUDGE)
    run.turn(Moment.now(), beat=False)
    while run.behind:
        run.turn(Moment.now(), beat=False)
    run.close()
    return run


def report(rows: int, repeats: int = 5) -> str:
    with tempfile.TemporaryDirectory() as place:
        folder, lines = Path(place), []
        for count, times in ((rows, repeats), (1000, 20 * repeats)):
            path = folder / f"{count}.jsonl"
            write_rows(path, count)
            bare, full = speeds(path, times)
            shares = sorted(b / f for b, f in zip(bare, full, strict=True))
            lines.append(
                f"| {count:,} | {1e6 * statistics.median(bare) / count:.2f} | "
                f"{1e6 * statistics.median(full) / count:.2f} | "
                f"{statistics.median(shares):.3f} | {shares[0]:.3f} to {shares[-1]:.3f} |"
            )
        flat, own = (memory_per_run(folder, runs=100, rows=5000, own=own) / 1000 for own in (False, True))
    return "\n".join(
        [
            "# The speed of a replay",
            "",
            "All rules on, from the file to the verdict, beside `pydantic_core.from_json` on each line of the same",
            "file; microseconds of processor time per row, medians of interleaved repetitions.",
            "",
            "| rows | parsing alone | replay | share of the speed | range |",
            "|---|---|---|---|---|",
            *lines,
            "",
            f"A watched run holds {flat:.1f} kB after 5,000 flat rows with four metrics, {own:.1f} kB after as many of",
            "our own with timestamps, however long it gets.",
            "",
            f"{machine()}. Made by `make bench-replay`.",
            "",
        ]
    )


def main() -> None:
    text = report(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    print(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
