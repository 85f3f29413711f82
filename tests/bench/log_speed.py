"""How long logging one training step keeps the training waiting: ours, its peers, and the least that can be done.

Every logger runs in a process of its own, so that nobody's threads stand in anybody else's way. The processes take
turns, a block of calls each, round after round. Every call is timed on the thread that makes it, which is the one that
trains; what a logger does on other threads counts where it holds the interpreter.

Usage: python tests/bench/log_speed.py [ROUNDS]
"""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed
sys.path.insert(0, str(Path(__file__).resolve().parent))

from latency import machine

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "log_speed.md"
ROUNDS = 30
BACK_TO_BACK = 500
"""Calls of a block with nothing between them: what a logger can take."""
BETWEEN_WORK = 100
"""Calls of a block with work between them: what a training step sees."""
WORK = bytes(700_000)
"""Hashing this takes about a millisecond with the interpreter free for other threads, as a training step leaves it."""

Row = dict[str, Any]
Call = Callable[[int, Row], object]


class Logger(NamedTuple):
    """A contestant: the package that it needs, if any, and what makes its call and ends it."""

    package: str | None
    start: Callable[[Path], tuple[Call, Callable[[], object]]]


# ------------------------------------------------------------------------------------------------- the contestants


def ours(folder: Path) -> tuple[Call, Callable[[], object]]:
    from trainer.log import RunLog

    log = RunLog(folder / "run")
    return lambda step, row: log.step(step, **row), log.close


def bare_write(folder: Path) -> tuple[Call, Callable[[], object]]:
    """No logger at all: bytes that are ready, of the length of our rows, to an open file."""
    file = os.open(folder / "rows", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    line = b"x" * 339 + b"\n"
    return lambda _step, _row: os.write(file, line), lambda: os.close(file)


def dumps(folder: Path, *, flush: bool) -> tuple[Call, Callable[[], object]]:
    """What people write who want no logger."""
    file = (folder / "rows.jsonl").open("a", encoding="utf-8")

    def call(step: int, row: Row) -> None:
        file.write(json.dumps({"step": step, **row}) + "\n")
        if flush:
            file.flush()

    return call, file.close


def csv_logger(folder: Path) -> tuple[Call, Callable[[], object]]:
    """With its default of writing every 100 rows, which the mean and the 99th percentile show."""
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(folder)
    return lambda step, row: logger.log_metrics(row, step=step), lambda: logger.finalize("success")


def tensorboard(folder: Path) -> tuple[Call, Callable[[], object]]:
    """One scalar per call is the interface; a thread writes the file."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)

    def call(step: int, row: Row) -> None:
        for name, value in row.items():
            writer.add_scalar(name, value, step)

    return call, writer.close


def wandb_offline(folder: Path) -> tuple[Call, Callable[[], object]]:
    """Another process writes the file."""
    import wandb

    run = wandb.init(project="bench", mode="offline", dir=folder)
    return lambda step, row: run.log(row, step=step), run.finish


def trackio_local(folder: Path) -> tuple[Call, Callable[[], object]]:
    """A thread writes to a local database."""
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio

    run = trackio.init(project="bench", embed=False)
    return lambda step, row: run.log(row, step=step), run.finish


LOGGERS = {
    "`RunLog.step`": Logger(None, ours),
    "`os.write` of a ready row": Logger(None, bare_write),
    "`json.dumps`, `write`": Logger(None, lambda folder: dumps(folder, flush=False)),
    "`json.dumps`, `write`, `flush`": Logger(None, lambda folder: dumps(folder, flush=True)),
    "Lightning CSVLogger": Logger("lightning", csv_logger),
    "TensorBoard SummaryWriter": Logger("tensorboard", tensorboard),
    "W&B offline": Logger("wandb", wandb_offline),
    "trackio": Logger("trackio", trackio_local),
}
OURS, FLOOR = list(LOGGERS)[:2]


# ------------------------------------------------------------------------------------------------ inside a process


def rows(seed: int, count: int) -> list[Row]:
    """Numbers with all their digits, as a training gives them."""
    chance = random.Random(seed)
    names = ("lr", "train_loss", "grad_norm", "accuracy", "tokens_per_second")
    return [{"epoch": 0, **{name: chance.random() for name in names}} for _ in range(count)]


def block(call: Call, first: int, count: int, *, work: bool) -> list[int]:
    """Nanoseconds of each of `count` calls."""
    taken, clock = [], time.perf_counter_ns
    for step, row in enumerate(rows(first, count), first):
        if work:
            hashlib.sha256(WORK).digest()
        begin = clock()
        call(step, row)
        taken.append(clock() - begin)
    return taken


def serve(name: str, folder: Path) -> None:
    """Answers each line `COUNT WORK` on the input with the nanoseconds of a block of calls."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some loggers talk
    os.dup2(1, 2)
    call, close = LOGGERS[name].start(folder)
    step = 0
    for line in sys.stdin:
        count, work = map(int, line.split())
        gc.collect()  # what earlier blocks left behind is not for this one to pay
        print(json.dumps(block(call, step, count, work=bool(work))), file=answers, flush=True)
        step += count
    close()


# ------------------------------------------------------------------------------------------------- the measurement


@contextmanager
def worker(name: str, folder: Path) -> Iterator[Callable[[int, bool], list[int]]]:
    """The process of one logger, as a function that has it make a block of calls."""
    command = [sys.executable, __file__, "--serve", name, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder)
    assert process.stdin is not None
    assert process.stdout is not None
    ask, answers = process.stdin, process.stdout

    def run(count: int, work: bool) -> list[int]:
        ask.write(f"{count} {int(work)}\n")
        ask.flush()
        answer: list[int] = json.loads(answers.readline())
        return answer

    try:
        yield run
    finally:
        ask.close()
        process.wait(timeout=120)


Times = dict[tuple[str, bool], list[list[int]]]
"""By logger, and whether there was work between the calls: the nanoseconds of each block."""


def measure(names: list[str], rounds: int) -> Times:
    """Blocks of all loggers in turn, each round in another order; the first round warms up and does not count."""
    chance, taken = random.Random(0), {(name, work): [] for name in names for work in (False, True)}
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        workers = {}
        for number, name in enumerate(names):
            folder = Path(place) / str(number)
            folder.mkdir()
            workers[name] = stack.enter_context(worker(name, folder))
        for turn in range(rounds + 1):
            for work in (False, True):
                for name in chance.sample(names, len(names)):
                    found = workers[name](BETWEEN_WORK if work else BACK_TO_BACK, work)
                    if turn:
                        taken[name, work].append(found)
    return taken


def cells(blocks: list[list[int]], base: list[list[int]]) -> list[str]:
    """Median, 99th percentile and mean of all calls in microseconds, and the median ratio of neighbouring blocks."""
    every = sorted(1e-3 * nanos for taken in blocks for nanos in taken)
    ratios = [statistics.median(one) / statistics.median(two) for one, two in zip(blocks, base, strict=True)]
    late = every[round(0.99 * (len(every) - 1))]
    figures = (statistics.median(every), late, statistics.fmean(every))
    return [*(f"{figure:.1f}" for figure in figures), f"{statistics.median(ratios):.2f}"]


def spread(figures: list[float]) -> str:
    """Of the medians of blocks, in nanoseconds: their median, and the least and the most."""
    ordered = sorted(1e-3 * figure for figure in figures)
    return f"{statistics.median(ordered):.1f} µs ({ordered[0]:.1f} to {ordered[-1]:.1f})"


def alone(taken: Times) -> str:
    """How a call of ours compares with the system's own share, back to back, block by block."""
    ours, floor = ([statistics.median(nanos) for nanos in taken[name, False]] for name in (OURS, FLOOR))
    over = spread([one - two for one, two in zip(ours, floor, strict=True)])
    return f"The median of a block of ours is {spread(ours)}; on top of a plain\n`os.write` of as many bytes, {over}."


def version(package: str | None) -> str:
    return "" if package is None else importlib.metadata.version(package)


def report(taken: Times, missing: list[str], rounds: int) -> str:
    lines = []
    for name, logger in LOGGERS.items():
        if name in missing:
            lines.append(f"| {name} | not installed |" + " |" * 8)
            continue
        columns = [cell for work in (False, True) for cell in cells(taken[name, work], taken[OURS, work])]
        lines.append(f"| {name} | {version(logger.package)} | " + " | ".join(columns) + " |")
    return "\n".join(
        [
            "# What a row costs the training",
            "",
            "Microseconds per call on the thread that trains: four metrics, learning rate and epoch, all with as many",
            f"digits as a float has. Each logger in its own process, {rounds} rounds of {BACK_TO_BACK} calls back to",
            f"back and {BETWEEN_WORK} calls with about a millisecond of work between them that leaves the interpreter",
            "free, the processes in turn; *times ours* is the median over the rounds.",
            "",
            "| logger | version | back to back: p50 | p99 | mean | times ours | after work: p50 | p99 | mean | times |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
            "`RunLog.step` and the line with `flush` have handed the row to the system when the call returns: it",
            "survives the death of the process. The others hold it in memory for a while or give it to a thread or",
            "another process.",
            "",
            alone(taken),
            "Others use this machine too, so it is now faster, now slower; ratios are of blocks that were neighbours.",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}. {machine()}, pydantic-core {version('pydantic-core')}.",
            "Made by `make bench-log`.",
            "",
        ]
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    missing = [name for name, (package, _) in LOGGERS.items() if package and importlib.util.find_spec(package) is None]
    taken = measure([name for name in LOGGERS if name not in missing], rounds)
    text = report(taken, missing, rounds)
    print(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
