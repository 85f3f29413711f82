"""Signals that end a sweep, and the note that ends one: after either nothing new is started."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from contract import Exit, sweep_stop
from trainer.sweep.job import Job
from trainer.sweep.plan import Plan


@contextmanager
def listening(*more: int) -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and the signals in `more`, in the order in which they come."""
    received: list[int] = []

    def hear(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)

    before = {signum: signal.signal(signum, hear) for signum in (signal.SIGINT, signal.SIGTERM, *more)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def reason(received: Sequence[int]) -> str:
    return f"{signal.Signals(received[0]).name} received by trainer sweep"


def called_off(plan: Plan, waiting: list[Job]) -> None:
    """Takes what is left from a sweep that is to stop as a whole; a note about some of it each run reads itself."""
    note = sweep_stop(plan.experiments, plan.id) if waiting else None
    if note is None or note.only:
        return
    told = f"the {len(waiting)} specs that are left are not started: {note.reason}"
    print(f"trainer: {told}", file=sys.stderr, flush=True)
    for job in waiting:
        job.code = Exit.STOPPED
    waiting.clear()
