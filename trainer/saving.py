"""The checkpoints of one run: when one is due, how it gets to the disk beside the training, and which is the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from trainer import spec
from trainer.cadence import should_checkpoint
from trainer.checkpoints import files, retention
from trainer.checkpoints.writer import Writer, copied
from trainer.data import Loader
from trainer.distributed import Alone
from trainer.log import RunLog
from trainer.spec.train import Train

State = dict[str, Any]


class Best(NamedTuple):
    """The best value of the primary metric so far, and its step; None where none was measured."""

    value: float | None = None
    step: int | None = None


@dataclass(frozen=True)
class _Written:
    """What came of a checkpoint that was written beside the training."""

    path: Path
    step: int
    best: float | None
    remark: str
    """What went wrong besides."""


class Saving:
    """Writes checkpoints, and knows what of the run is on disk.

    Only the process that leads writes, and so it alone learns that a write has failed: what depends on that, the
    others are told.

    Args:
        options: the spec.
        ranks: the processes that share the work.
        saved: called with path and step of each checkpoint that is on disk.
    """

    def __init__(self, options: spec.Spec, ranks: Alone, saved: Callable[[Path, int], None]) -> None:
        self.saved_at = 0
        """The step whose state was saved last, as it is now; -1 once it has changed."""
        self.best = Best()
        self._before = Best()  # what `best` was, until it is on disk
        self._options, self._ranks, self._saved = options, ranks, saved
        self._writer: Writer[_Written] = Writer(background=options.checkpoints.background)
        self._submitted = 0  # the step whose checkpoint was given to the writer last
        self._on_disk = True  # whether that one is written, as far as is known

    def start(self, folder: Path, log: RunLog) -> None:
        """Where checkpoints go from here on, and where they are told of."""
        self._folder, self._log = folder, log

    @property
    def ready(self) -> bool:
        """Whether there is something to tell of."""
        return self._writer.ready

    def due(self, step: int, plan: Train, loader: Loader) -> bool:
        """Whether to save after this step: by steps, and by epochs where the plan is in epochs.

        The best model is no matter here: it has been saved when it was found to be.
        """
        if self.saved_at == step:
            return False
        if plan.checkpoint_every and step % plan.checkpoint_every == 0:
            return True
        if plan.epochs is None or not plan.checkpoint_epochs or not loader.epoch_over:
            return False
        return should_checkpoint(loader.position.epoch, plan.epochs, every=plan.checkpoint_epochs)

    def submit(self, state: State, value: float | None, *, best: bool) -> None:
        """Has a state written; returns as soon as it is copied.

        Args:
            state: everything that a restart needs; holds its `step`.
            value: of the primary metric at this step, where it was measured.
            best: whether no step was better.
        """
        self.saved_at = state["step"]
        if self._ranks.leads:
            self._submitted = state["step"]
            self._writer.submit(partial(self._write, copied(state), value, best=best))
        if not self._options.checkpoints.background:
            self.settle()

    def _write(self, state: State, value: float | None, *, best: bool) -> _Written:
        """Writes a checkpoint and removes what retention keeps no more. Runs beside the training."""
        keep, metric = self._options.checkpoints, self._options.metric
        note = {"run_id": self._log.run_id, "metric": metric.name}
        path = files.save_step(self._folder, state, value=value, note=note, best=best)
        policy = retention.Policy(keep.keep_last, keep.keep_best, keep.keep_every, metric.direction)
        remark = ""
        try:
            retention.prune(self._folder, policy, newest=state["step"])
        except OSError as error:
            remark = f"an old checkpoint could not be removed: {error}"
        return _Written(path, state["step"], state["best"], remark)

    def settle(self) -> bool:
        """Waits for the checkpoint under way, if any, and tells of it; returns whether the last one was written."""
        try:
            done = self._writer.take()
        except OSError as error:
            self._on_disk = False
            if self.best.step == self._submitted:  # the best that there is on disk is the one before
                self.best = self._before
            self.lost(self._submitted, str(error))
            return False
        if done is not None:
            self._on_disk = True
            best = {} if done.best is None else {self._options.metric.name: done.best}
            self._log.checkpoint_saved(done.path, step=done.step, **best)
            if done.remark:
                self._log.note(done.remark)
            self._saved(done.path, done.step)
        return self._on_disk

    def lost(self, step: int, why: str) -> None:
        """Tells that a step could not be saved, on the terminal as well: a disk can be made room on while it runs."""
        remark = f"no checkpoint was written at step {step}: {why}"
        print(f"{self._log.experiment.id}: {remark}", flush=True)
        self._log.note(remark)

    def settled(self) -> bool:
        """As `settle`, with the same answer on all processes."""
        return self._ranks.lead(self.settle)

    # ------------------------------------------------------------------------------------------------- the best one

    def improves(self, value: float | None, step: int) -> bool:
        """Whether a value of the primary metric is the best so far; it is then remembered."""
        if not self._better(value):
            return False
        self._before, self.best = self.agreed(), Best(value, step)
        return True

    def _better(self, value: float | None) -> bool:
        sign = -1 if self._options.metric.direction == "min" else 1
        if value is None or not math.isfinite(value):
            return False
        return self.best.value is None or (value - self.best.value) * sign > 0

    def agreed(self) -> Best:
        """The best one that is on disk, the same on all processes."""
        self.best = self._ranks.lead(self._settled_best)
        return self.best

    def _settled_best(self) -> Best:
        self.settle()
        return self.best

    def close(self) -> None:
        """Waits for the checkpoint under way and ends the thread that writes it."""
        self._writer.close()
