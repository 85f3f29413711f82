"""How often a run that is killed by the system, at any instant, goes on exactly: rows and weights bit for bit.

Real processes, really killed. Each of them is forked from one that has loaded torch, so that hundreds fit in minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from table import machine

from trainer import sealed, spec
from trainer.launch import Order, launch

RESULTS = Path(__file__).parent / "results/resume.md"

SMALL: dict[str, Any] = {
    "seed": 3,
    "device": "cpu",
    "model": {"layers": 1, "heads": 2, "width": 16, "context": 16, "dropout": 0.1},
    "data": {"max_bytes": 6000, "val_bytes": 500, "difficulty": "zlib"},
    "optimizer": {"lr": 1e-2},
    "train": {
        "steps": 60, "batch_size": 4, "accumulate": 2, "eval_every": 9, "eval_batches": 1, "checkpoint_every": 4,
    },
}  # fmt: skip

IMAGES = {"model": {"kind": "cnn", "channels": [4, 8], "dropout": 0.1}, "data": {"kind": "digits"}}

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "workers": {"loading": {"workers": 2}},
    "fp16, skipping steps": {"train": {"precision": "fp16"}, "schedule": {"kind": "one-cycle"}},
    "averaged weights": {"ema": {"decay": 0.9}, "optimizer": {"kind": "lion", "lr": 1e-3}},
    "curriculum, mining, unfreezing": {
        "curriculum": {"kind": "step", "steps": 40},
        "mining": {"keep_ratio": 0.5, "warmup_steps": 7},
        "frozen": [{"match": "blocks", "until_step": 13}],
    },
    "muon, wsd": {"optimizer": {"kind": "muon"}, "schedule": {"kind": "wsd", "warmup_steps": 5}},
    "stages": {
        "stages": [
            {"name": "first", "train": {"steps": 25}},
            {"name": "second", "kind": "finetune", "train": {"steps": 35}, "optimizer": {"kind": "adamw", "lr": 1e-3}},
            {"name": "exam", "kind": "eval"},
        ]
    },
    "images with batch norm": IMAGES,
    "lora": {"lora": {"rank": 2, "targets": ["query_key_value"]}},
    "everything": {
        "loading": {"workers": 1},
        "train": {"precision": "fp16"},
        "ema": {"decay": 0.9},
        "curriculum": {"kind": "linear", "steps": 40},
        "mining": {"keep_ratio": 0.5, "warmup_steps": 7},
        "frozen": [{"match": "blocks", "until_step": 13}],
        "schedule": {"kind": "wsd", "warmup_steps": 5},
        "checkpoints": {"keep_last": 3, "keep_every": 20},
    },
}


_FILE_CALLS = 400
"""Things done to files of checkpoints among which the deadly one is drawn; a run of 60 steps does about 600 of them."""

_BEGINS_WITHIN = 60.0
"""Seconds in which a run has written its first row, else it is killed all the same."""


def document(variant: str) -> spec.Document:
    return spec.laid_over(SMALL, VARIANTS[variant])


@dataclass(frozen=True)
class Trace:
    """What a run has left: rows by event and step, the last one of each, and the state in its last checkpoint."""

    rows: Mapping[tuple[str, int], Mapping[str, Any]]
    state: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path) -> Trace:
        rows = {}
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            if row["event"] in ("step", "evaluation", "epoch_end"):
                rows[row["event"], row["step"]] = row["metrics"] | {"lr": row.get("learning_rate")}
        return cls(rows, torch.load(folder / "checkpoints/last.pt", weights_only=True))


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two states or rows are not the same to the last bit."""
    if isinstance(one, torch.Tensor):
        if not (isinstance(other, torch.Tensor) and torch.equal(one, other)):
            yield where
    elif isinstance(one, Mapping):
        for key in dict.fromkeys((*one, *other)):
            if key not in one or key not in other:
                yield f"{where}/{key}: on one side only"
            else:
                yield from differences(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            yield where
        for number, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            yield from differences(mine, theirs, f"{where}/{number}")
    elif one != other:
        yield f"{where}: {one} and {other}"


def child(order: Order, before: Callable[[], None] = lambda: None) -> int:
    """Starts a process that carries out an order; returns its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        torch.set_num_threads(1)
        before()
        code = int(launch(order))
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as a copy of its parent
        code = 99
    os._exit(code)


def killing_at(number: int) -> None:
    """Has this process kill itself at the `number`th thing that it does to a file of a checkpoint."""
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    sealed._Hashing.write = counted(sealed._Hashing.write)  # type: ignore[method-assign]
    sealed.replace = counted(sealed.replace)  # type: ignore[assignment]
    for name in ("replace", "link", "fsync"):
        setattr(os, name, counted(getattr(os, name)))


@dataclass
class Count:
    """What came of the runs of one variant."""

    runs: int = 0
    kills: int = 0
    in_a_write: int = 0
    exact: int = 0
    wrong: list[str] = field(default_factory=list)


def undisturbed(variant: str, root: Path) -> tuple[Trace, float]:
    """What a run leaves that nobody disturbs, and how many seconds it takes from its first step to its last."""
    pid = child(Order(_spec(variant, root), root))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise RuntimeError(f"{variant}: the undisturbed run ended with exit code {code}")
    rows = map(json.loads, (root / "exp-001/metrics.jsonl").read_text().splitlines())
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows if row["event"] == "step"]
    return Trace.of(root / "exp-001"), (times[-1] - times[0]).total_seconds()


def _spec(variant: str, root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "spec.md"  # JSON strings, numbers and lists are TOML; tables are not
    path.write_text("```toml\n" + "".join(_toml(document(variant))) + "```\n")
    return path


def _toml(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    inner = {key: value for key, value in table.items() if _is_table(value)}
    for key, value in table.items():
        if key not in inner:
            yield f"{key} = {json.dumps(value)}\n"
    for key, value in inner.items():
        for one in value if isinstance(value, list) else [value]:
            brackets = ("[[", "]]") if isinstance(value, list) else ("[", "]")
            yield f"{brackets[0]}{prefix}{key}{brackets[1]}\n"
            yield from _toml(one, f"{prefix}{key}.")


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def steps_in(root: Path) -> int:
    """How many rows of steps the run has written so far."""
    path = root / "exp-001/metrics.jsonl"
    return path.read_bytes().count(b'"event":"step"') if path.exists() else 0


def kill_soon(pid: int, root: Path, wait: float) -> None:
    """Kills a run some seconds after its first step: one that has not begun has nothing to lose.

    The wait begins with a row that was not there before, so a slow machine has it no easier.
    """
    before, deadline = steps_in(root), time.monotonic() + _BEGINS_WITHIN
    while steps_in(root) == before and time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.001)
    time.sleep(wait)
    os.kill(pid, signal.SIGKILL)


def disturbed(variant: str, root: Path, seconds: float, chance: random.Random, count: Count) -> Trace:
    """What a run leaves that is killed up to three times, at random instants or in the writing of a checkpoint."""
    order = Order(_spec(variant, root), root)
    for _ in range(chance.randint(1, 3)):
        in_a_write = chance.random() < 0.4
        number = chance.randint(1, _FILE_CALLS)
        pid = child(order, (lambda number=number: killing_at(number)) if in_a_write else lambda: None)
        if not in_a_write:
            kill_soon(pid, root, chance.uniform(0.0, seconds))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        count.kills += code == -signal.SIGKILL
        count.in_a_write += in_a_write and code == -signal.SIGKILL
        order = _again(root)
    code = os.waitstatus_to_exitcode(os.waitpid(child(order), 0)[1])
    if code:
        raise RuntimeError(f"{variant}: resuming ended with exit code {code}")
    return Trace.of(root / "exp-001")


def _again(root: Path) -> Order:
    """To go on where there is something to go on with; to begin where the process did not come so far."""
    folder = root / "exp-001"
    if not (folder / "experiment.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        return Order(root / "spec.md", root)
    return Order(folder, root, resume=(folder / "training_status.json").exists())


def measure(variant: str, runs: int, seed: int) -> Count:
    """Runs of one variant, each disturbed in its own way."""
    count = Count()
    with tempfile.TemporaryDirectory() as place:
        expected, seconds = undisturbed(variant, Path(place, "undisturbed"))
        for number in range(runs):
            chance = random.Random(f"{variant} {seed} {number}")
            root = Path(place, str(number))
            try:
                found = disturbed(variant, root, seconds, chance, count)
                wrong = [*differences(expected.rows, found.rows, "rows"), *differences(expected.state, found.state)]
            except (RuntimeError, OSError) as error:
                wrong = [str(error)]
            count.runs += 1
            count.exact += not wrong
            count.wrong += [f"{variant}, run {number}: {'; '.join(wrong[:3])}"] if wrong else []
            shutil.rmtree(root, ignore_errors=True)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=25, help="of each variant")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="only these, and no results are written")
    options = parser.parse_args()
    found = {variant: measure(variant, options.runs, options.seed) for variant in options.variant or VARIANTS}
    lines = [
        "# Killed and resumed",
        "",
        "Each run is killed with SIGKILL one to three times, 60 % of the times at a random instant and 40 % in the",
        "midst of writing a checkpoint, and resumed until it is complete. Exact: every row of every step, evaluation",
        "and epoch, and everything in the last checkpoint (weights, optimizer, scaler, random numbers, position) are",
        "those of a run that nobody disturbed, bit for bit, on the CPU.",
        "",
        "| run with | runs | kills | of them in a write | exact |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {name} | {c.runs} | {c.kills} | {c.in_a_write} | {c.exact} |" for name, c in found.items()]
    totals = [sum(getattr(c, name) for c in found.values()) for name in ("runs", "kills", "in_a_write", "exact")]
    lines += [f"| **all** | {' | '.join(f'**{total}**' for total in totals)} |", ""]
    lines += [f"- {wrong}" for c in found.values() for wrong in c.wrong]
    lines += [f"{datetime.now(UTC):%Y-%m-%d}. {machine()}, torch {torch.__version__}. `make bench-resume`", ""]
    if not options.variant:
        RESULTS.write_text("\n".join(lines))
    print("\n".join(lines))
    return 0 if totals[0] == totals[3] else 1


if __name__ == "__main__":
    sys.exit(main())
