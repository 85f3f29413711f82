"""One training: everything that it consists of, and what it does at a step, an evaluation, a checkpoint, the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contract import CHECKPOINTS, Kill, Phase
from trainer import data as sources
from trainer import mining, model, optim, outfit, rehearsal, result, scores, spec, tasks
from trainer.callbacks import Callbacks, Moment
from trainer.checkpoints import files, randomness, warm_start
from trainer.data import Micro, Position
from trainer.deferred import Deferred
from trainer.distributed import ALONE, Alone
from trainer.ema import Ema
from trainer.evaluate import Evaluator
from trainer.experiment import choose_device
from trainer.log import RunLog
from trainer.outfit import Outfit
from trainer.precision import Precision
from trainer.saving import Best, Saving
from trainer.stages import Leg, legs

_APART = 1_000_003
"""Between the seeds of two ranks, so that rank 1 of seed 1 is not rank 0 of seed 2."""


class Run:
    """Everything that one run consists of.

    Args:
        options: the spec.
        ranks: the processes that share the work.
        donated: a checkpoint whose weights the model begins with, as far as they fit; `donated` then says how far.

    Raises:
        SpecError: the spec cannot be trained: the data is not there, or model, task and data do not fit each other.
    """

    def __init__(self, options: spec.Spec, ranks: Alone = ALONE, donated: files.State | None = None) -> None:
        self.options, self.ranks = options, ranks
        self.legs = legs(options, sources.load)
        self.device = ranks.device(choose_device(options.device))
        randomness.seed_everything(options.seed, deterministic=options.deterministic)
        data = self.legs[0].data
        network = model.build(options, data)
        self.donated = [] if donated is None else warm_start.restore(network, donated)
        self.model = ranks.placed(network.to(self.device))
        if ranks.rank:  # the same weights everywhere, but each its own dropout
            randomness.seed_everything(options.seed + ranks.rank * _APART, deterministic=options.deterministic)
        self.ask = model.asked(self.model)
        self.task = tasks.build(options, data)
        self.ema = Ema(self.model, options.ema.decay) if options.ema else None
        self.callbacks = Callbacks(options.callbacks, self._callback_failed)
        self.total_steps = self.legs[-1].last
        self.deferred = Deferred()
        self.saving = Saving(options, ranks, self._saved)
        self.step = self.skipped = self.examined_at = self.leg_number = 0
        self.value: float | None = None
        """Of the primary metric at the last evaluation."""
        self.served = 0
        """Samples that earlier legs were trained on."""
        self.epoch_loss = [0.0, 0.0]  # sum and count, for the mean of the epoch under way
        self.log: RunLog
        self._compiled = not any(leg.options.train.compile for leg in self.legs)
        scores.check_spec(self.task, self.legs)
        for leg in self.legs[1:]:
            outfit.check(leg, self.legs[0], self.model, options)
        self._set_out(self.legs[0])

    def start(self, folder: Path, log: RunLog, fingerprints: Mapping[str, Any]) -> None:
        """Where the run writes from here on, and the fingerprints of what it runs on, for its result."""
        self.folder, self.log, self.fingerprints = folder, log, fingerprints
        self.saving.start(folder, log)
        self._call("train_start")

    # ------------------------------------------------------------------------- what a restart needs, all of it

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.ranks.model_state(self.model),
            "optimizer": self.ranks.optimizer_state(self.model, self.optimizer),
            "precision": self.precision.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "random": self.ranks.every(randomness.random_state()),
            "leg": self.leg_number,
            "served": self.served,
            "position": asdict(self.loader.position),
            "step": self.step,
            "skipped": self.skipped,
            "examined_at": self.examined_at,
            "best": self.saving.best.value,
            "best_at": self.saving.best.step,
            "epoch_loss": self.epoch_loss,
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Goes on from a checkpoint; returns a sentence for each thing that could not be restored."""
        self.leg_number, self.served, self.step = state["leg"], state["served"], state["step"]
        self._set_out(self.legs[self.leg_number])
        self.ranks.load_model(self.model, state["model"])
        self.ranks.load_optimizer(self.model, self.optimizer, state["optimizer"])
        self.precision.load_state_dict(state["precision"])
        if self.ema and state["ema"]:
            self.ema.load_state_dict(state["ema"])
        self.loader.position = Position(**state["position"])
        self.skipped, self.examined_at = state["skipped"], state["examined_at"]
        self.epoch_loss = list(state["epoch_loss"])
        self.saving.best, self.saving.saved_at = Best(state["best"], state["best_at"]), self.step
        if len(state["random"]) != self.ranks.world:
            seed = self.options.seed + self.step + self.ranks.rank * _APART
            randomness.seed_everything(seed, deterministic=self.options.deterministic)
            before = len(state["random"])
            return [f"random numbers begin anew: saved by {before} rank(s), resumed by {self.ranks.world}"]
        randomness.restore_random_state(state["random"][self.ranks.rank])
        return []

    # --------------------------------------------------------------------------------------------- stage by stage

    def _set_out(self, leg: Leg) -> None:
        """Takes what a leg has of its own, as it is at this step."""
        self.leg, self._scale = leg, math.inf
        self.precision = Precision(leg.options.train.precision, self.device)
        self.outfit = Outfit(leg, self.model, self.options, self.ranks, self.step - leg.first + 1)
        self.optimizer, self.loader = self.outfit.optimizer, self.outfit.loader
        batch, metrics = leg.options.train.batch_size, leg.options.evaluate.metrics
        self.evaluator = Evaluator(self.task, self.ask, self.precision, self.device, self.ranks, batch, metrics)

    def enter(self, leg: Leg) -> None:
        """Begins a leg, unless a checkpoint was taken in the midst of it."""
        number = next(number for number, one in enumerate(self.legs) if one is leg)
        if number != self.leg_number:
            self.deferred.flush()
            self.leg_number = number
            self.served = self._samples()
            self.epoch_loss = [0.0, 0.0]
            if leg.kind == "finetune":
                self._back_to_best()
            if leg.kind != "eval" and leg.data.fingerprint != self.leg.data.fingerprint:
                self._begin_best_anew()
            self.loader.close()
            self._set_out(leg)
        if leg.kind == "eval":
            self._exam(leg)
        elif leg.name and self.step == leg.first:
            self.log.regime_change(f"stage {leg.name}: {leg.kind}, {leg.steps} steps")

    def end(self, leg: Leg) -> None:
        """Examines and saves what the last step of a leg has made."""
        if leg.kind == "eval":
            return
        self.deferred.flush()
        if leg.options.train.eval_every and self.examined_at != self.step:
            self.examine()
        if self.saving.saved_at != self.step:
            self.save()

    def _back_to_best(self) -> None:
        """The weights that were best so far; those of now where none were measured."""
        if self.saving.agreed().value is None:
            return
        try:
            found = files.load(self.folder / CHECKPOINTS / f"{files.BEST}.pt")
        except files.BadCheckpoint as error:
            self.log.note(f"goes on from the weights of now, not from the best: {error}")
            return
        self.ranks.load_model(self.model, found["ema"] or found["model"])
        if self.ema:
            self.ema.load_state_dict(self.model.state_dict())
        self.log.note(f"goes on from the best weights so far, of step {found['step']}")

    def _begin_best_anew(self) -> None:
        """Values on other data cannot be compared; without this the first stage's weights might stay the best."""
        if self.saving.agreed().value is not None:
            self.saving.best, self.value = Best(), None
            self.log.note(f"{self.options.metric.name} is measured on other data from here on: the best begins anew")

    def _exam(self, leg: Leg) -> None:
        self.deferred.flush()
        with self.log.phase(Phase.EVALUATE):
            self.ranks.alike(self.examined)
            found = self.evaluator(self.examined, leg.data.val, "test_")
        self.log.evaluation(self.step, **found)
        self._call("evaluation", found)

    # ------------------------------------------------------------------------------------------------ one step

    def asked_to_stop(self) -> Kill | None:
        return self.ranks.agreed(self.log.should_stop, self.step)

    def advance(self) -> None:
        """One optimizer step, from the data to the row."""
        step, leg = self.step + 1, self.leg
        options = leg.options
        if step - leg.first in self.outfit.switches:
            self.log.regime_change(self.outfit.switch(step - leg.first))
        rate = optim.learning_rate(step - leg.first, options.optimizer.lr, options.schedule, leg.steps)
        optim.set_learning_rate(self.optimizer, rate)
        rehearsal.before_batch(options.rehearsal, step)
        with self._compiling():
            loss = self.backward(self.loader.next_group(step - leg.first), step - leg.first)
        rehearsal.mid_step(options.rehearsal, step)
        self.precision.unscale(self.optimizer)
        norm = self.ranks.whole(optim.clip(self.outfit.weights, options.train.clip_norm))
        self.precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(self.model)
        self.step = step
        self.report(rate, loss, norm)
        if self.callbacks.wants("step_end"):
            self.deferred.flush()
            self._call("step_end")
        if self.saving.ready:
            self.saving.settle()
        if self.loader.epoch_over:
            self.end_epoch()

    def backward(self, group: list[Micro], step: int) -> Tensor:
        """Adds up the gradient of a group of micro-batches; returns the loss, the mean over all their samples.

        Every micro-batch counts by its real share, so the smaller group at the end of an epoch is not too weak.
        """
        total: Tensor | None = None
        for number, micro in enumerate(group, 1):
            with self.ranks.accumulating(self.outfit.forward, last=number == len(group)):
                with self.precision.autocast():
                    loss = self._loss(micro, step)
                if micro.share != 1.0:
                    loss = loss * micro.share
                # Gradients of several processes are averaged, and these are meant to be added up.
                self.precision.backward(loss * self.ranks.world if self.ranks.world > 1 else loss)
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def _loss(self, micro: Micro, step: int) -> Tensor:
        inputs, targets = self._moved(micro.inputs), self._moved(micro.targets)
        logits, own = self.ask(self.outfit.forward, inputs, targets)
        if self.leg.options.mining:
            return mining.hardest(self.task.losses(logits, targets), self.leg.options.mining, step)
        return self.task.mean(logits, targets) if own is None else own

    def report(self, rate: float, loss: Tensor, norm: Tensor) -> None:
        """Queues the row of this step. It is written when its numbers have left the device."""
        logged = self.step % self.leg.options.train.log_every == 0 or self.step == self.total_steps
        scale = self.precision.scale()
        if not logged and not scale:  # a step that was skipped counts, logged or not
            return
        step, epoch, memory = self.step, self.loader.position.epoch, self._memory()
        tokens = self._tokens()

        def write(numbers: dict[str, float]) -> None:
            if scale:
                self._scaled(step, numbers)
            if not logged:
                return
            self.epoch_loss[0] += numbers["train_loss"]
            self.epoch_loss[1] += 1
            self.log.step(step, learning_rate=rate, epoch=epoch, gpu_memory_mb=memory, **numbers, **tokens)

        found = self.ranks.total({"train_loss": loss})
        self.deferred.put({**found, "grad_norm": norm, **scale}, write)

    def _scaled(self, step: int, numbers: dict[str, float]) -> None:
        """Tells of a step that was skipped: its gradient was none. Finding the scale is no failure."""
        scale = numbers["loss_scale"]
        if (scale < self._scale and self._scale != math.inf) or not math.isfinite(numbers["grad_norm"]):
            self.skipped += 1
            numbers.pop("grad_norm")
            if self.skipped in (1, 10, 100, 1000):
                self.log.note(
                    f"step {step} was skipped, number {self.skipped}: gradients overflowed; scale {scale:g} now"
                )
        self._scale = scale
        numbers["skipped_steps"] = float(self.skipped)

    def end_epoch(self) -> None:
        self.deferred.flush()
        total, count = self.epoch_loss
        mean = {"train_loss_epoch": total / count} if count else {}
        more = self._call("epoch_end", mean)
        self.log.epoch_end(self.loader.position.epoch, step=self.step, **mean, **more)
        self.epoch_loss = [0.0, 0.0]

    # --------------------------------------------------------------------------------- evaluations, checkpoints

    @property
    def examined(self) -> nn.Module:
        """The model that evaluations look at."""
        averaged = self.ema is not None and self.options.ema is not None and self.options.ema.evaluate
        return self.ema.model if averaged and self.ema else self.model

    def examine(self) -> None:
        """Evaluates; the best model so far is saved."""
        self.deferred.flush()
        batches = self.leg.options.train.eval_batches
        with self.log.phase(Phase.EVALUATE):
            self.ranks.alike(self.examined)
            found = self.evaluator(self.examined, self.leg.data.val, "val_", batches=batches)
        found |= self.ranks.lead(lambda: self._call("evaluation", found))
        self.examined_at, self.saving.saved_at = self.step, -1  # what is saved does not know of this yet
        self.log.evaluation(self.step, **found)
        self.value = found.get(self.options.metric.name)
        if self.saving.improves(self.value, self.step):
            self.save(best=True)

    def checkpoint_due(self) -> bool:
        return self.saving.due(self.step, self.leg.options.train, self.loader)

    def save(self, *, best: bool = False) -> None:
        """Saves everything that a restart needs, unless it is poisoned: a sound checkpoint must not be lost to NaN."""
        self.deferred.flush()
        self.saving.settle()
        if not self.sound():
            self.saving.lost(self.step, "the state is not finite")
            return
        with self.log.phase(Phase.CHECKPOINT):
            self.saving.submit(self.state_dict(), self.value if self.examined_at == self.step else None, best=best)

    def _kept(self) -> bool:
        """Saves what the last step has made, and tries once more where the disk refuses it; the same on all ranks."""
        if self.saving.saved_at != self.step:
            self.save()
        if self.saving.settled():
            return True
        self.save(best=self.saving.best.step == self.step)
        return self.saving.settled()

    def sound(self) -> bool:
        """Whether the last row and all weights are finite."""
        finite = (self.ranks.whole(parameter.detach().isfinite().all()) for parameter in self.outfit.weights)
        weights = torch.stack(list(finite))
        return self.ranks.all_true(weights.all() & self.deferred.healthy)

    # -------------------------------------------------------------------------------------------------- the end

    def leave(self, kill: Kill) -> None:
        """Goes because somebody asked: rows first, then the checkpoint that makes a wrong request cheap."""
        self.deferred.flush()
        if kill.save_checkpoint:
            self._kept()
        self.saving.settle()

    def finish(self) -> None:
        """Writes the result.

        Raises:
            OSError: the last checkpoint cannot be written.
        """
        if not self._kept():
            raise OSError(f"{self.folder}: the last checkpoint could not be written; see the notes of the run")
        self._call("train_end")
        if not self.ranks.leads:
            return
        name = self.options.metric.name
        result.write(
            self.folder,
            self.log.experiment,
            run_id=self.log.run_id,
            value=self.log.metrics.get(name) if self.best is None else self.best,
            secondary=self.log.metrics,
            fingerprints=self.fingerprints,
            checkpoint=files.described(self.folder, files.BEST) or files.described(self.folder, files.LAST),
        )

    def close(self) -> None:
        """Ends the helpers: the thread that writes checkpoints, the processes that read data."""
        self.saving.close()
        self.loader.close()

    # --------------------------------------------------------------------------------------------------- details

    @property
    def best(self) -> float | None:
        """The best value of the primary metric so far."""
        return self.saving.best.value

    def _saved(self, path: Path, step: int) -> None:
        self._call("checkpoint_saved", step=step, checkpoint=path)

    def _call(
        self,
        event: str,
        more: Mapping[str, float] | None = None,
        *,
        step: int | None = None,
        checkpoint: Path | None = None,
    ) -> dict[str, float]:
        """Calls the functions of an event, on the process that leads."""
        if not self.callbacks.wants(event) or not self.ranks.leads:
            return {}
        metrics = {**self.log.metrics, **(more or {})}
        step, epoch = self.step if step is None else step, self.loader.position.epoch
        moment = Moment(event, step, epoch, metrics, self.folder, self.model, checkpoint)
        return self.callbacks.call(moment, measured=more or ())

    def _callback_failed(self, name: str, event: str, error: str) -> None:
        self.log.callback_failed(name, event, error)

    def _tokens(self) -> dict[str, float]:
        """The tokens trained on so far, where the budget counts them."""
        if self.options.budget.tokens is None:
            return {}
        return {"tokens": float(self._samples() * self.options.context)}

    def _samples(self) -> int:
        """How many samples were trained on so far."""
        position = self.loader.position
        return self.served + position.epoch * len(self.loader.samples) + position.index

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
