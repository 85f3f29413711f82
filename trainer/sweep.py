"""Several specs, some at a time, one process each: a run that dies takes nobody with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from contract import Exit, StatusFile, Unreadable, run_state

_LOOK_SECONDS = 0.1


@dataclass
class Job:
    """One spec and what came of it."""

    spec: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    seconds: float = 0.0
    code: int | None = None

    @property
    def accounted_for(self) -> bool:
        return self.code in (Exit.FINISHED, Exit.STOPPED)

    def folder(self, experiments: Path) -> Path | None:
        """The experiment that the run said it is, in the first line of its output."""
        found = re.match(r"(\S+) -> ", self.log.read_text("utf-8", "replace")) if self.log.exists() else None
        return experiments / found[1] if found else None

    def state(self, experiments: Path) -> str:
        folder = self.folder(experiments)
        try:
            document = StatusFile(folder).read() if folder else None
        except (OSError, Unreadable):
            document = None
        return str(run_state(document)) if document else "-"


def sweep(folder: Path, experiments: Path, jobs: int, settings: list[str]) -> int:
    """Trains every `*.toml` in `folder`. Returns 0 when every run finished or was stopped on request."""
    specs = sorted(folder.glob("*.toml"))
    if not specs or jobs < 1:
        nothing = "there is no .toml file in it" if folder.is_dir() else "there is no such folder"
        what = f"{folder}: {nothing}" if jobs >= 1 else f"--jobs {jobs}: at least 1 is needed"
        print(f"trainer: {what}", file=sys.stderr)
        return 2
    logs = experiments / ".sweep"
    logs.mkdir(parents=True, exist_ok=True)
    waiting = [Job(path, logs / f"{path.stem}.log") for path in specs]
    everything, running = list(waiting), list[Job]()
    with _forwarding(running) as stopping:
        while running or (waiting and not stopping):
            while waiting and len(running) < jobs and not stopping:
                job = waiting.pop(0)
                running.append(job)
                _start(job, experiments, settings, jobs)
            time.sleep(_LOOK_SECONDS)
            for job in [job for job in running if _ended(job)]:
                running.remove(job)
                print(f"{job.spec.stem}: {_outcome(job, experiments)}", flush=True)
    print(_table(everything, experiments), flush=True)
    return 0 if all(job.accounted_for for job in everything) else 1


def _start(job: Job, experiments: Path, settings: list[str], jobs: int) -> None:
    command = [sys.executable, "-m", "trainer", "run", str(job.spec), "--experiments", str(experiments)]
    for setting in settings:
        command += ["--set", setting]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    job.began = time.monotonic()
    with job.log.open("wb") as output:
        job.process = subprocess.Popen(  # noqa: S603 - this program itself
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONUTF8": "1"},
            start_new_session=True,  # Ctrl-C reaches the runs once, through us: twice would mean "now"
        )
    print(f"{job.spec.stem}: started", flush=True)


def _ended(job: Job) -> bool:
    job.code = job.process.poll() if job.process else None
    job.seconds = time.monotonic() - job.began
    return job.code is not None


def _outcome(job: Job, experiments: Path) -> str:
    folder = job.folder(experiments)
    name = folder.name if folder else "no experiment"
    code = signal.Signals(-job.code).name if job.code is not None and job.code < 0 else f"exit {job.code}"
    text = f"{name} {job.state(experiments)} after {job.seconds:.1f} s ({code})"
    return text if job.accounted_for else f"{text}; its output: {job.log}"


@contextmanager
def _forwarding(running: list[Job]) -> Iterator[list[int]]:
    """Passes SIGINT and SIGTERM on to the runs. Yields the signals received; after the first nothing new is started."""
    received: list[int] = []

    def forward(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)
        for job in running:
            if job.process and job.process.poll() is None:
                job.process.send_signal(signum)

    before = {signum: signal.signal(signum, forward) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _table(jobs: list[Job], experiments: Path) -> str:
    rows = [("spec", "experiment", "exit", "state", "seconds")]
    for job in jobs:
        folder = job.folder(experiments) if job.process else None
        code = "-" if job.code is None else str(job.code)
        state = job.state(experiments) if job.process else "not started"
        rows.append((job.spec.stem, folder.name if folder else "-", code, state, f"{job.seconds:.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
