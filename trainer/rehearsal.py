"""Faults staged on purpose: the only way to know that somebody would notice."""

from __future__ import annotations

import os
import signal
import threading

from trainer import spec


def before_batch(options: spec.Rehearsal, step: int) -> None:
    """A data loader that never answers: the process lives, its heartbeat goes on, nothing moves."""
    if step == options.loader_hangs_at_step:
        threading.Event().wait()


def mid_step(options: spec.Rehearsal, step: int) -> None:
    """What the system does to a process that takes too much memory: no goodbye."""
    if step == options.sigkill_at_step:
        os.kill(os.getpid(), signal.SIGKILL)
