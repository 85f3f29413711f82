"""Processes for `live.py`: training loops that sleep instead of computing, with real habits and faults.

A program is a combination of habits; all runs of one are told apart by a seed. Work is slept in slices, so a process
that was suspended goes on with the rest of its step afterwards, as a real one does.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

import contract
from trainer.log import RunLog

SLICE = 0.25
LOOKED, SCORED = "looked at", "only scored"


class Pause(NamedTuple):
    """What interrupts the steps: every so many logged rows, for about so many seconds."""

    every: int
    seconds: float
    announced: bool = False


class Program(NamedTuple):
    """Habits that belong together."""

    name: str
    half: str
    writer: str
    """`runlog`: our own. `status`: JSON lines, and a status file that the loop itself writes. `lines`: lines alone."""
    step: float
    """Seconds; each run has 0.6 to 1.6 times as much."""
    log_every: int = 1
    jitter: float = 0.1
    """Of the logarithm of the time of a step."""
    evaluate: Pause | None = None
    save: Pause | None = None
    first: float = 0.0
    """Seconds that the first step takes longer: a compiler at work."""
    slow_start: float = 1.0
    """Times the usual time of a step, in the first 20."""
    burst: int = 0
    """So many steps come at once, and then the loader needs the time that they saved."""
    strange: float = 0.0
    """Share of the steps that take ten times as long."""
    decline: float = 1.0
    """Times the usual time of a step after three minutes, reached little by little."""
    complete: bool = True
    """Whether lines alone say how long the run is meant to be, and that it has ended."""


P = Program

PROGRAMS = (
    P("plain", LOOKED, "runlog", 0.5),
    P("eval-announced", LOOKED, "runlog", 0.25, 2, 0.1, Pause(30, 6, True), Pause(50, 3, True)),
    P("eval-silent", LOOKED, "runlog", 0.4, 1, 0.2, Pause(25, 5), first=8.0),
    P("bursts", LOOKED, "runlog", 0.5, burst=8),
    P("lines-every-10", LOOKED, "lines", 0.1, 10, 0.2, save=Pause(20, 4), complete=False),
    P("status-by-hand", LOOKED, "status", 0.6, 1, 0.3),
    P("long-steps", SCORED, "runlog", 1.2, 1, 0.3, first=15.0, strange=0.01),
    P("every-20", SCORED, "runlog", 0.1, 20, 0.1, Pause(6, 8, True), save=Pause(25, 3)),
    P("strange-steps", SCORED, "runlog", 0.5, 1, 0.5, strange=0.02),
    P("declining", SCORED, "runlog", 0.5, 1, 0.1, slow_start=3.0, decline=1.6),
    P("lines-eval-silent", SCORED, "lines", 0.5, 1, 0.2, Pause(40, 6), slow_start=4.0),
    P("status-bursts", SCORED, "status", 0.4, 1, 0.1, burst=5, save=Pause(60, 5)),
)  # fmt: skip

HANGS = ("lock", "pipe", "sleep")
CRASHES = ("sigkill", "exception", "exit")


class Member(NamedTuple):
    """One run and what will become of it."""

    id: str
    program: Program
    kind: str
    """Faults: hang, hang-evaluating, poll, crash, slow. Otherwise: healthy, suspended, pause, upload, frozen."""
    how: str
    at: float
    """Seconds after its start at which that sets in."""
    lasting: float
    """Seconds: of a pause or suspension."""
    until: float
    """Seconds after its start at which the run is done."""
    seed: int

    @property
    def faulty(self) -> bool:
        return self.kind in {"hang", "hang-evaluating", "poll", "crash", "slow"}


# ------------------------------------------------------------------------------------------------------ writers


class Lines:
    """Flat JSON lines and nothing else."""

    def __init__(self, folder: Path, program: Program) -> None:
        folder.mkdir()
        self.folder, self.complete = folder, program.complete
        self._log = contract.Appender(folder / contract.METRICS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self.complete:
            self._log.append({"event": "training_end", "time": time.time()})

    def step(self, step: int, **metrics: float) -> None:
        meant = {"max_steps": 1_000_000} if self.complete else {}
        self._log.append({"step": step, "time": time.time(), **meant, **metrics})

    def evaluation(self, step: int, **metrics: float) -> None:
        self.step(step, **metrics)

    def checkpoint_saved(self, path: str, *, step: int) -> None:
        """Nobody is told."""

    def phase(self, _name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def should_stop(self, _step: int) -> bool:
        return False


class ByHand(Lines):
    """Flat lines, and a status file that the training loop writes itself: when it hangs, so does the heartbeat."""

    def __init__(self, folder: Path, program: Program) -> None:
        super().__init__(folder, program)
        self._status, self._started, self._next = contract.StatusFile(folder), contract.now(), 0.0
        self._tell("running", 0)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if kind is None:
            self._tell("completed", None)

    def step(self, step: int, **metrics: float) -> None:
        super().step(step, **metrics)
        if time.monotonic() >= self._next:
            self._tell("running", step)
            self._next = time.monotonic() + 1

    def should_stop(self, _step: int) -> bool:
        with suppress(OSError, contract.Unreadable):
            return contract.pending_kill(self._status.read() or {}) is not None
        return False

    def _tell(self, state: str, step: int | None) -> None:
        now = contract.now()
        own = {"state": state, "run_id": self.folder.name, "started_at": self._started, "heartbeat_at": now,
               "process": asdict(contract.this_process()), **({} if step is None else {"step": step})}  # fmt: skip
        with suppress(contract.StatusBusy):
            self._status.edit(lambda document: {**document, **own})


WRITERS: dict[str, Any] = {"runlog": lambda folder, _: RunLog(folder), "status": ByHand, "lines": Lines}


# --------------------------------------------------------------------------------------------------------- loop


class Trainee:
    """The training loop of one run."""

    def __init__(self, member: Member, folder: Path, truth: Path) -> None:
        self.member, self.program, self.folder, self.truth = member, member.program, folder, truth
        self.chance = random.Random(member.seed)
        self.usual = self.program.step * self.chance.uniform(0.6, 1.6)
        self.lengths = self.chance.uniform(0.5, 1.6)
        self.slow = 1.0
        self.start = time.monotonic()
        self.due = True
        """What is in store for this run has not happened yet."""

    @property
    def age(self) -> float:
        return time.monotonic() - self.start

    def train(self) -> int:
        with WRITERS[self.program.writer](self.folder, self.program) as log:
            work(self.program.first * self.lengths)
            step = 0
            while self.age < self.member.until:
                step += 1
                self._fate()
                work(self._seconds(step))
                if step % self.program.log_every == 0:
                    log.step(step, loss=0.5 + 2 * math.exp(-self.age / 60) + self.chance.gauss(0, 0.02), lr=1e-3)
                    self._pauses(log, step)
                if log.should_stop(step):
                    return 3
        self._happened("ended")
        return 0

    def _seconds(self, step: int) -> float:
        program, usual = self.program, self.usual * self.slow
        if program.burst and self.slow == 1.0:
            usual = usual * program.burst if step % program.burst == 0 else 0.02
        if step <= 20:
            usual *= program.slow_start
        if self.chance.random() < program.strange:
            usual *= 10
        decline = 1 + (program.decline - 1) * min(1.0, self.age / 180)
        return usual * decline * math.exp(self.chance.gauss(0, program.jitter))

    def _pauses(self, log: Any, step: int) -> None:
        row = step // self.program.log_every
        evaluate, save = self.program.evaluate, self.program.save
        if evaluate and row % evaluate.every == 0:
            with self._announced(log, "evaluate", evaluate):
                work(evaluate.seconds * self.lengths * self.chance.uniform(0.8, 1.25))
                log.evaluation(step, val_loss=0.6 + 2 * math.exp(-self.age / 60))
        if save and row % save.every == 0:
            with self._announced(log, "checkpoint", save):
                work(save.seconds * self.lengths * self.chance.uniform(0.8, 1.25))
                log.checkpoint_saved(f"checkpoints/{step}", step=step)

    @contextmanager
    def _announced(self, log: Any, name: str, pause: Pause) -> Iterator[None]:
        with log.phase(name) if pause.announced else nullcontext():
            if name == "evaluate" and self.member.kind == "hang-evaluating" and self.age >= self.member.at:
                self._happened("onset")
                hang(self.member.how)
            yield

    def _fate(self) -> None:
        """What was laid down for this run, when its time has come."""
        kind, how = self.member.kind, self.member.how
        if not self.due or self.age < self.member.at or kind in {"healthy", "hang-evaluating", "suspended", "frozen"}:
            return
        self.due = False
        self._happened("onset")
        if kind == "hang":
            hang(how)
        elif kind == "poll":
            poll()
        elif kind == "slow":
            self.slow = 4.0
        elif kind == "crash":
            crash(how)
        else:
            work(self.member.lasting)

    def _happened(self, what: str) -> None:
        with self.truth.open("a", encoding="utf-8") as file:
            file.write(json.dumps({what: time.time()}) + "\n")


def work(seconds: float) -> None:
    """Sleeps in slices: what a suspension takes away must be made up for afterwards."""
    for _ in range(int(seconds / SLICE)):
        time.sleep(SLICE)
    time.sleep(seconds % SLICE)


def hang(how: str) -> None:
    """Never returns, and does nothing."""
    if how == "lock":
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    elif how == "pipe":
        os.read(os.pipe()[0], 1)
    while True:
        time.sleep(3600)


def poll() -> None:
    """Never returns, and looks busy: a sixth of a core, so that the others still get theirs."""
    while True:
        until = time.thread_time() + 0.016
        while time.thread_time() < until:
            pass
        time.sleep(0.08)


def crash(how: str) -> None:
    if how == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(1)
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


# -------------------------------------------------------------------------------------------------------- birth


def born(member: Member, folder: Path, truth: Path) -> int:
    """Forks a process that trains; it dies with this one. A fork costs a hundredth of a new interpreter."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _die_with(parent)
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        os.setpgid(0, 0)  # Ctrl-C is for the bench, which then ends the others
        code = Trainee(member, folder, truth).train()
    except BaseException:  # noqa: BLE001  # an unhandled exception ends a real program too, but with a long text
        pass
    finally:
        os._exit(code)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
