"""How long `checker list` takes over ten thousand experiments, next to reading the same bytes and doing nothing.

Usage: python tests/bench/list_speed.py [EXPERIMENTS]
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed
sys.path.insert(0, str(Path(__file__).resolve().parent))

from latency import machine

import contract

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "list_speed.md"
RUNS = ROOT / "tests" / "runs"
ROUNDS = 7

FLOOR = """
import json, os, sys
from pydantic_core import from_json
root = sys.argv[1]
for name in os.listdir(root):
    for file in ("experiment.json", "training_status.json", "result.json"):
        try:
            with open(f"{root}/{name}/{file}", "rb") as opened:
                from_json(opened.read())
        except FileNotFoundError:
            pass
"""
"""Opening and parsing the files that `list` cannot do without."""


def fill(root: Path, count: int) -> None:
    """`count` experiments: copies of a real run, a third of them killed for what was found in another one."""
    chance = random.Random(count)
    about, status = (
        json.loads((RUNS / "healthy" / name).read_text()) for name in (contract.EXPERIMENT, contract.STATUS)
    )
    found = json.loads((RUNS / "explosion" / "expected.json").read_text())["findings"]
    for number in range(1, count + 1):
        folder, value = root / f"exp-{number:05d}", chance.uniform(1, 3)
        folder.mkdir()
        parent = f"exp-{chance.randint(max(1, number - 50), number):05d}" if number > 1 else None
        own = {"id": folder.name, "parent": parent, "hypothesis": f"idea {number} of many"}
        (folder / contract.EXPERIMENT).write_text(json.dumps({**about, **own}, indent=1))
        state = "killed" if chance.random() < 1 / 3 else "completed"
        own = {"experiment_id": folder.name, "state": state, "best_metrics": {"val_loss": value, "train_loss": value}}
        (folder / contract.STATUS).write_text(json.dumps({**status, **own}, indent=1))
        if state == "killed":
            lines = ({"v": 1, "kind": "finding", **finding} for finding in found)
            (folder / contract.FINDINGS).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        else:
            metric = {"name": "val_loss", "value": value, "direction": "min"}
            result = {"experiment_id": folder.name, "primary_metric": metric, "secondary_metrics": {"a": 1.0, "b": 2.0}}
            (folder / contract.RESULT).write_text(json.dumps(result, indent=1))


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - begin


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        fill(root, count)
        size = sum(entry.stat().st_size for folder in os.scandir(root) for entry in os.scandir(folder.path))
        commands = {
            "reading and parsing the same files, nothing else": [sys.executable, "-c", FLOOR, place],
            "`checker list`": [sys.executable, "-m", "checker", "list", place],
            "`checker list --json`": [sys.executable, "-m", "checker", "list", place, "--json"],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                taken[name].append(seconds(command))
    floor = statistics.median(next(iter(taken.values())))
    rows = [
        f"| {name} | {statistics.median(times):.2f} | {max(times):.2f} | {statistics.median(times) / floor:.2f} |"
        for name, times in taken.items()
    ]
    RESULT.write_text(
        f"# Ten thousand experiments in one list\n\n"
        f"{count:,} folders made of a real run, {size / 2**20:.0f} MiB, files in the page cache; whole processes,\n"
        f"from start to end, {ROUNDS} rounds, interleaved.\n\n"
        "| what | median s | slowest s | times the floor |\n|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"{machine()} Made by `make bench-list`.\n"
    )
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
