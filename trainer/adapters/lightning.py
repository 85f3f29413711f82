"""Lightning: its run as a run folder, and a request to stop as its own clean stop.

    from trainer.adapters.lightning import CheckerCallback

    trainer = Trainer(..., callbacks=[CheckerCallback("experiments/my-run")])

It is the same for `lightning.pytorch` and for the older name `pytorch_lightning`.

**What is seen when.** The loss that `training_step` returns, one row per optimizer step, whatever is logged otherwise:
on a GPU a step or two later, since nothing waits for the device. With gradient accumulation it is the mean of the
micro-batches. The gradient norm is that before clipping, where one optimizer has whole gradients (not FSDP, not
DeepSpeed). A `training_step` that returns no loss (manual optimization) is seen by what it logs, every
`log_every_n_steps`. Validations, ends of epochs and checkpoints of any `ModelCheckpoint` are told as well.

**A request to stop** (the status file, SIGTERM, Ctrl-C) is obeyed after the batch: a checkpoint in `checkpoints/` of
the run folder, unless the weights are not finite, then `trainer.should_stop`, whatever `min_epochs` and `min_steps`
say. So `trainer.fit` returns, and `callback.kill` is the request; a script may want to leave with exit code 3.
`trainer.fit(..., ckpt_path="experiments/my-run/checkpoints/step-120.ckpt")` goes on.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from contract import CHECKPOINTS, Kill, Phase
from trainer.adapters import tensors
from trainer.adapters.session import Session, described, numbers, spared
from trainer.deferred import Deferred
from trainer.log import RunLog

try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback


class CheckerCallback(Callback):  # type: ignore[misc]  # the library need not be there
    """Writes the run folder of a training with Lightning, and stops it when it is asked to.

    Args:
        folder: the run folder.
        about: arguments of `trainer.log.RunLog`: `metric`, `tiers`, `hypothesis`, `budget`, `config`…

    Raises:
        TypeError: `about` has a name that `RunLog` does not take.
    """

    def __init__(self, folder: str | os.PathLike[str], **about: Any) -> None:
        self._session = Session(folder, about, "CheckerCallback")

    @property
    def run_log(self) -> RunLog | None:
        """The log of the training under way, for notes and declared changes of regime."""
        return self._session.log

    @property
    def kill(self) -> Kill | None:
        """The request that the last training has obeyed; None where it was not asked to stop."""
        return self._session.kill

    # --------------------------------------------------------------------------------------------- begin and end

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._deferred, self._ranks = Deferred(), tensors.Ranks()
        self._losses: list[Tensor] = []
        self._rate: float | None = None
        self._norm: Tensor | None = None
        self._step = trainer.global_step
        self._saved = False
        self._before: dict[str, Any] = {}
        self._evaluated: set[str] = set()
        epochs = trainer.max_epochs
        self._session.begin(
            resume=trainer.global_step > 0,
            rank=trainer.global_rank,
            world=trainer.world_size,
            total_steps=_planned(trainer),
            total_epochs=epochs if epochs and epochs > 0 else None,
            config=described(lambda: _config(trainer, pl_module)),
        )

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self._note_checkpoint(trainer)
        self._finish(None)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        self._ask(trainer)  # SIGTERM leaves Lightning by an exception
        self._finish(exception)

    @spared
    def _finish(self, error: BaseException | None) -> None:
        try:
            self._deferred.flush()
        finally:
            self._session.end(error)

    @spared
    def _ask(self, trainer: Any) -> None:
        self._session.asked(trainer.global_step)

    # -------------------------------------------------------------------------------------------------- each step

    @spared
    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        self._note_checkpoint(trainer)

    @spared
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:  # noqa: ARG002
        self._rate = optimizer.param_groups[0]["lr"]  # of this step: schedulers move before the batch ends
        whole = trainer.world_size == 1 or "DDP" in type(trainer.strategy).__name__
        self._norm = tensors.gradient_norm(optimizer) if whole and len(trainer.optimizers) == 1 else None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self._hear(trainer, outputs)
        if self._session.log is not None and trainer.global_step != self._step:
            self._step = trainer.global_step
            self._take(trainer)
            self._obey(trainer, pl_module)

    @spared
    def _hear(self, trainer: Any, outputs: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            parts = trainer.accumulate_grad_batches if trainer.lightning_module.automatic_optimization else 1
            self._losses.append(loss.detach().reshape(()) * parts)  # Lightning has divided it by them

    @spared
    def _take(self, trainer: Any) -> None:
        """One row for one optimizer step."""
        step, rate, epoch, memory = self._step, self._rate, trainer.current_epoch, tensors.memory_mb()
        scalars = {"loss": tensors.mean(self._losses)} if self._losses else {}
        norm, self._norm, self._losses = self._norm, None, []
        if norm is not None and (not scalars or norm.device == scalars["loss"].device):
            scalars["grad_norm"] = norm
        scale = tensors.loss_scale(getattr(trainer.precision_plugin, "scaler", None))
        more = dict(scale)
        if "loss" not in scalars and step % trainer.log_every_n_steps == 0:
            more |= numbers(trainer.callback_metrics)
        log = self._session.log
        assert log is not None

        def write(found: dict[str, float]) -> None:
            if scale and not math.isfinite(found.get("grad_norm", 0.0)):
                del found["grad_norm"]  # a step that a loss scaler skips: its gradient is none
            log.step(step, learning_rate=rate, epoch=epoch, gpu_memory_mb=memory, **{**more, **found})

        if scalars:
            self._deferred.put(scalars, write)
        else:
            self._deferred.flush()  # rows come in the order of their steps
            write({})

    # ----------------------------------------------------------------------------------------------- evaluations

    @spared
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self._note_checkpoint(trainer)
        self._deferred.flush()
        self._before = dict(trainer.callback_metrics)
        self._session.turn(Phase.EVALUATE)

    @spared
    def on_validation_batch_end(self, *_: Any) -> None:
        log = self._session.log
        assert log is not None
        log.progress()

    @spared
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        log = self._session.log
        assert log is not None
        metrics = dict(trainer.callback_metrics)
        found = numbers({name: value for name, value in metrics.items() if self._before.get(name) is not value})
        self._evaluated |= set(found)
        log.evaluation(trainer.global_step, **found)
        self._session.turn(Phase.TRAIN)

    @spared
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self._note_checkpoint(trainer)
        self._deferred.flush()
        log = self._session.log
        assert log is not None
        found = numbers(trainer.callback_metrics)
        told = {name: value for name, value in found.items() if name not in self._evaluated}
        log.epoch_end(trainer.current_epoch, step=trainer.global_step, **told)

    # ----------------------------------------------------------------------------------------------- checkpoints

    @spared
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:  # noqa: ARG002
        self._deferred.flush()
        self._session.turn(Phase.CHECKPOINT)
        self._saved = True

    @spared
    def _note_checkpoint(self, trainer: Any) -> None:
        """Tells of the checkpoint that was written since the last turn: Lightning tells only that one begins."""
        if not self._saved:
            return
        self._saved = False
        self._session.turn(Phase.TRAIN)
        known = {str(path) for one in trainer.checkpoint_callbacks for path in _paths(one)}
        there = [path for path in map(Path, known) if path.exists()]
        log = self._session.log
        if there and log is not None:
            log.checkpoint_saved(max(there, key=lambda path: path.stat().st_mtime_ns).absolute())

    # ------------------------------------------------------------------------------------------------------ stop

    @spared
    def _obey(self, trainer: Any, pl_module: Any) -> None:
        """Saves and asks Lightning to stop, where somebody asks this run to."""
        kill = self._session.kill = self._ranks.agreed(self._session.asked, self._step)
        if kill is None:
            return
        trainer.should_stop = True
        trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None  # they would outrank it
        self._deferred.flush()
        try:
            if kill.save_checkpoint:
                self._save(trainer, pl_module)
        except Exception as error:  # noqa: BLE001 - whoever is asked to go, goes; why nothing was saved is told
            self._session.trouble("checkpoint", error)
        self._session.end()  # what Lightning does after a stop (a last validation, say) is no longer the run's

    def _save(self, trainer: Any, pl_module: Any) -> None:
        log = self._session.log
        assert log is not None
        if not tensors.sound(pl_module):
            log.note(f"no checkpoint was written at step {self._step}: the weights are not finite")
            return
        path = self._session.folder / CHECKPOINTS / f"step-{self._step}.ckpt"
        self._session.turn(Phase.CHECKPOINT)
        trainer.save_checkpoint(path)
        self._saved = False
        log.checkpoint_saved(path, step=self._step)


def _planned(trainer: Any) -> int | None:
    """How many optimizer steps there will be; None where nobody can know."""
    try:
        steps = trainer.estimated_stepping_batches
    except Exception:  # noqa: BLE001 - it asks the user's data loaders, and no training needs the answer
        return None
    return None if math.isinf(steps) else int(steps)


def _paths(checkpoint: Any) -> list[Any]:
    """Where a `ModelCheckpoint` has its files; another kind of checkpoint may not say."""
    names = ("best_model_path", "last_model_path")
    found = [getattr(checkpoint, name, "") for name in names] + list(getattr(checkpoint, "best_k_models", ()))
    return [path for path in found if path]


def _config(trainer: Any, module: Any) -> dict[str, Any]:
    """The hyper-parameters that the module has saved, and what of the Trainer shapes the training."""
    trainers = {
        name: getattr(trainer, name, None)
        for name in ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")
    }
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return {**{key: value for key, value in trainers.items() if value is not None}, "lr": rates, **module.hparams}
