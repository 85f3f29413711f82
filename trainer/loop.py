"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contract import Kill, Phase
from trainer import checkpoint, model, optim, rehearsal, result, spec
from trainer.cadence import should_checkpoint
from trainer.data import Batch, Loader, Position, Text
from trainer.deferred import Deferred
from trainer.evaluate import evaluate
from trainer.experiment import choose_device, total_steps
from trainer.log import RunLog
from trainer.precision import Precision


def train(run: Run) -> Kill | None:
    """Trains to the last step, or until somebody asks to stop; returns that request."""
    try:
        while run.step < run.total_steps:
            if kill := run.log.should_stop(run.step):
                run.leave(kill)
                return kill
            run.advance()
            if due(run.step, run.options.train.eval_every):
                run.examine()
            if run.step < run.total_steps and run.checkpoint_due():  # the last step is saved by `finish`, examined
                run.save("last")
        run.finish()
    except BaseException:
        with suppress(RuntimeError):  # a device that has failed gives no more numbers; its own error is the one to see
            run.deferred.flush()
        raise
    return None


def due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


class Run:
    """Everything that one run consists of."""

    def __init__(self, options: spec.Spec, text: Text) -> None:
        self.options, self.text = options, text
        self.device = choose_device(options.device)
        checkpoint.seed_everything(options.seed)
        self.model = model.build(options.model).to(self.device)
        self.forward: nn.Module = torch.compile(self.model) if options.train.compile else self.model  # type: ignore[assignment]
        self.optimizer = optim.build(self.model, options.optimizer, self.device)
        self.precision = Precision(options.train.precision, self.device)
        self.loader = Loader(text.train, options, Position())
        self.total_steps = total_steps(options, text)
        self.deferred = Deferred()
        self.step = 0
        self.examined_at = 0
        self.saved_at = 0
        self.best: float | None = None
        self.epoch_loss = [0.0, 0.0]  # sum and count, for the mean of the epoch under way
        self._compiled = not options.train.compile

    def start(self, folder: Path, log: RunLog, fingerprints: Mapping[str, Any]) -> None:
        """Where the run writes from here on, and the fingerprints of what it runs on, for its result."""
        self.folder, self.log, self.fingerprints = folder, log, fingerprints

    # ------------------------------------------------------------------------- what a restart needs, all of it

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "random": checkpoint.random_state(),
            "position": asdict(self.loader.position),
            "step": self.step,
            "examined_at": self.examined_at,
            "best": self.best,
            "epoch_loss": self.epoch_loss,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.load_state_dict(state["precision"])
        checkpoint.restore_random_state(state["random"])
        self.loader.position = Position(**state["position"])
        self.step = state["step"]
        self.examined_at = state["examined_at"]
        self.saved_at = self.step
        self.best = state["best"]
        self.epoch_loss = list(state["epoch_loss"])

    # ------------------------------------------------------------------------------------------------ one step

    def advance(self) -> None:
        """One optimizer step, from the data to the row."""
        step, options = self.step + 1, self.options
        rate = optim.learning_rate(step, options.optimizer.lr, options.schedule, self.total_steps)
        optim.set_learning_rate(self.optimizer, rate)
        rehearsal.before_batch(options.rehearsal, step)
        with self._compiling():
            loss = self.backward(self.loader.next_group())
        rehearsal.mid_step(options.rehearsal, step)
        self.precision.unscale(self.optimizer)
        norm = clip(self.model, options.train.clip_norm)
        updated = self.precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step
        self.report(rate, {"train_loss": loss, "grad_norm": norm} if updated else {"train_loss": loss})
        if self.loader.epoch_over:
            self.end_epoch()

    def backward(self, group: list[Batch]) -> Tensor:
        """Adds up the gradient of a group of micro-batches; returns the loss, the mean over all their windows.

        Every micro-batch counts by its real share, so the smaller group at the end of an epoch is not too weak.
        """
        windows = sum(len(tokens) for tokens, _ in group)
        total = torch.zeros((), device=self.device)
        for tokens, targets in group:
            with self.precision.autocast():
                loss = model.loss_of(self.forward, self._moved(tokens), self._moved(targets))
            loss = loss * (len(tokens) / windows)
            self.precision.backward(loss)
            total += loss.detach()
        return total

    def report(self, rate: float, scalars: dict[str, Tensor]) -> None:
        """Queues the row of this step. It is written when its numbers have left the device."""
        if not due(self.step, self.options.train.log_every) and self.step != self.total_steps:
            return
        step, epoch, memory = self.step, self.loader.position.epoch, self._memory()
        more = {**self.precision.metrics(), **self._tokens()}

        def write(numbers: Mapping[str, float]) -> None:
            self.epoch_loss[0] += numbers["train_loss"]
            self.epoch_loss[1] += 1
            self.log.step(step, learning_rate=rate, epoch=epoch, gpu_memory_mb=memory, **numbers, **more)

        self.deferred.put(scalars, write)

    def end_epoch(self) -> None:
        self.deferred.flush()
        total, count = self.epoch_loss
        mean = {"train_loss_epoch": total / count} if count else {}
        self.log.epoch_end(self.loader.position.epoch, step=self.step, **mean)
        self.epoch_loss = [0.0, 0.0]

    # --------------------------------------------------------------------------------- evaluations, checkpoints

    def examine(self) -> None:
        """Evaluates; the best model so far is saved."""
        self.deferred.flush()
        with self.log.phase(Phase.EVALUATE):
            found = evaluate(self.model, self.text.val, self.options, self.precision, self.device)
        self.examined_at, self.saved_at = self.step, -1  # what is saved does not know of this yet
        self.log.evaluation(self.step, **found)
        value, sign = found[self.options.metric.name], -1 if self.options.metric.direction == "min" else 1
        if math.isfinite(value) and (self.best is None or (value - self.best) * sign > 0):
            self.best = value
            self.save("best")

    def checkpoint_due(self) -> bool:
        """Whether `last.pt` is to be saved after this step: by steps, and by epochs where the plan is in epochs.

        The best model is no matter here: `examine` saves it, with all that a restart needs, as `best.pt`.
        """
        plan = self.options.train
        if due(self.step, plan.checkpoint_every):
            return True
        if plan.epochs is None or not plan.checkpoint_epochs or not self.loader.epoch_over:
            return False
        return should_checkpoint(self.loader.position.epoch, plan.epochs, every=plan.checkpoint_epochs)

    def save(self, name: str) -> bool:
        """Saves everything that a restart needs, unless it is poisoned: a sound checkpoint must not be lost to NaN."""
        self.deferred.flush()
        if not self.sound():
            self.log.note(f"checkpoint {name}.pt was not written at step {self.step}: the state is not finite")
            return False
        with self.log.phase(Phase.CHECKPOINT):
            path = checkpoint.save(self.folder, name, self.state_dict())
        self.saved_at = self.step if name == "last" else self.saved_at
        best = {} if self.best is None else {self.options.metric.name: self.best}
        self.log.checkpoint_saved(path, step=self.step, **best)
        return True

    def sound(self) -> bool:
        """Whether the last row and all weights are finite."""
        weights = torch.stack([parameter.detach().isfinite().all() for parameter in self.model.parameters()])
        return self.deferred.healthy and bool(weights.all())

    # -------------------------------------------------------------------------------------------------- the end

    def leave(self, kill: Kill) -> None:
        """Goes because somebody asked: rows first, then the checkpoint that makes a wrong request cheap."""
        self.deferred.flush()
        if kill.save_checkpoint and self.saved_at != self.step:
            self.save("last")

    def finish(self) -> None:
        self.deferred.flush()
        if self.options.train.eval_every and self.examined_at != self.step:
            self.examine()
        if self.saved_at != self.step:
            self.save("last")
        name = self.options.metric.name
        result.write(
            self.folder,
            self.log.experiment,
            run_id=self.log.run_id,
            value=self.log.metrics.get(name) if self.best is None else self.best,
            secondary=self.log.metrics,
            fingerprints=self.fingerprints,
            checkpoint=checkpoint.described(self.folder, "best") or checkpoint.described(self.folder, "last"),
        )

    def _tokens(self) -> dict[str, float]:
        """The tokens trained on so far, where the budget counts them."""
        if self.options.budget.tokens is None:
            return {}
        windows = self.loader.position.epoch * self.loader.windows + self.loader.position.index
        return {"tokens": float(windows * self.options.context)}

    def _moved(self, batch: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return batch
        return batch.pin_memory().to(self.device, non_blocking=True)

    def _memory(self) -> float | None:
        if self.device.type != "cuda":
            return None
        return round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)

    def _compiling(self) -> AbstractContextManager[None]:
        """The first compiled step takes minutes, and whoever watches should know why."""
        if self._compiled:
            return nullcontext()
        self._compiled = True
        return self.log.phase(Phase.COMPILE)


def clip(network: nn.Module, limit: float) -> Tensor:
    """Clips the gradients to a total norm of `limit` (0: not at all); returns the norm that they had before."""
    parameters = [parameter for parameter in network.parameters() if parameter.grad is not None]
    if limit > 0:
        return nn.utils.clip_grad_norm_(parameters, limit)
    return nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
