"""The heartbeat of every process of a distributed run other than rank 0. Standard library only.

Rank 0 writes the log and the status file. A rank that dies or hangs takes all others with it into a wait that never
ends, so each of them says in a small file of its own that it lives and how far it has come.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract import Phase, Rank, State, encode, rank_file, rank_stacks, replace, this_process
from trainer.stacks import Stacks

_BEAT_SECONDS = 1.0
"""As the heartbeat in the status file."""

_LAUNCH = ("TRAINER_RUN_ID", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher tells all its processes alike, and the next launch, mostly, differently. When it is the same all the
same, a file is known to be an earlier launch's by its time."""


def world() -> dict[str, Any]:
    """What the status file says about a distributed run; nothing for a run of one process."""
    size = world_size()
    return {"world_size": size, "launch": launch()} if size > 1 else {}


def world_size() -> int:
    return _whole("WORLD_SIZE", 1)


def rank() -> int:
    return _whole("RANK", 0)


def launch() -> str:
    """A name for this launch, the same in all its processes."""
    return "/".join(filter(None, (os.environ.get(name) for name in _LAUNCH)))


def _whole(name: str, usual: int) -> int:
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        return usual


class Heartbeat:
    """Keeps one rank's file fresh from a thread of its own, so that it goes on while the training loop hangs.

    Telemetry must not end a training: a write that the disk refuses is left to the next beat.
    """

    def __init__(self, folder: Path, rank: int, world_size: int) -> None:
        self._path = folder / rank_file(rank)
        self._moved = time.time()
        self._stacks: Stacks | None = None
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stacks = Stacks(folder, rank_stacks(rank))
        began = _iso(self._moved)
        self._record = Rank(
            rank=rank,
            world_size=world_size,
            launch=launch(),
            process=this_process(),
            started_at=began,
            updated_at=began,
            progress_at=began,
            stack_signal=self._stacks.signum if self._stacks else None,
        )
        self._step: int | None = None
        self._phase: str = Phase.START
        self._wake = threading.Event()
        self._over = False
        self._write()
        self._thread = threading.Thread(target=self._beat, name="rank-heartbeat", daemon=True)
        self._thread.start()
        atexit.register(self._leave)

    @property
    def phase(self) -> str:
        return self._phase

    def enter(self, phase: str) -> None:
        """Notes what the program does from here on."""
        self._phase, self._moved = phase, time.time()

    def step(self, step: int | None) -> None:
        """Notes that the loop moved, and how far it is; nothing is written here."""
        if step is not None:
            self._step = step
        self._moved = time.time()

    def close(self, state: State, error: str | None = None) -> None:
        """Stops the thread and writes the last word, which is the one that must survive."""
        if self._over:
            return
        self._over = True
        self._wake.set()
        self._thread.join()
        atexit.unregister(self._leave)
        self._record = dataclasses.replace(self._record, state=str(state), error=error)
        self._write(sync=True)
        if self._stacks is not None:
            self._stacks.close()

    def _leave(self) -> None:
        """The last word of a program that ends without closing its log; a child that was forked off says none."""
        if os.getpid() != self._record.process.pid:
            return
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if error is None:
            self.close(State.COMPLETED)
        else:
            self.close(State.FAILED, f"{type(error).__name__}: {error}")

    def _beat(self) -> None:
        while not self._wake.wait(_BEAT_SECONDS):
            self._write()

    def _write(self, *, sync: bool = False) -> None:
        record = dataclasses.replace(
            self._record,
            step=self._step,
            phase=str(self._phase),
            progress_at=_iso(self._moved),
            updated_at=_iso(time.time()),
        )
        with suppress(OSError):
            replace(self._path, encode(dataclasses.asdict(record)), sync=sync)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
