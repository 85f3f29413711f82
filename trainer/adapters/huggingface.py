"""Hugging Face's Trainer: its run as a run folder, and a request to stop as its own clean stop.

    from trainer.adapters.huggingface import CheckerCallback

    trainer = Trainer(..., callbacks=[CheckerCallback("experiments/my-run")])

**What is seen when.** The Trainer tells callbacks no loss but the mean over `logging_steps`, in which
`logging_nan_inf_filter` (on by default) hides every NaN. So the loss of each step is taken where the model returns it,
by a forward hook, before any filter: it stands in the row of its step, on a GPU a step or two later, since nothing
waits for the device. At the first log the mean of what was seen is compared with what the Trainer says. Where the two
disagree, or the model returns no loss (a `compute_loss` of one's own, `compute_loss_func`, label smoothing), or it
cannot be hooked (`torch_compile`, several GPUs in one process), the loss in the log is the Trainer's mean, at each log,
and the filter is switched off until the training ends, with a note. Except with `fp16`: there a single NaN, of a step
that the loss scaler skips, would make the Trainer's mean NaN for ever; the gradient norm shows it instead.

The gradient norm is the Trainer's, before clipping, in the rows of its logs. Where a loss or a gradient is not finite
the row has the norm as it was after clipping: it shows whether the step did any harm.

**A request to stop** (the status file, SIGTERM, Ctrl-C) is obeyed after the step: `should_training_stop`, and a
checkpoint unless the weights are not finite. Then `trainer.train()` returns, and `callback.kill` is the request; a
script may want to leave with exit code 3. `trainer.train(resume_from_checkpoint=True)` goes on in the same folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from contract import Kill, Phase
from trainer.adapters import tensors
from trainer.adapters.session import Session, described, numbers, spared
from trainer.deferred import Deferred
from trainer.log import RunLog

_SAME = 0.01
"""How far the mean of the losses that were seen may be from the Trainer's: both are of the same numbers."""

_SAME_ABROAD = 0.5
"""As above with several processes: what was seen is the first one's share of each batch."""

_OF_THE_MACHINE = ("_runtime", "_per_second", "_preparation_time")
"""Ends of the names of what the Trainer measures of its own speed."""


@dataclass
class _Row:
    """A step that waits for its numbers, or for what the Trainer is about to log of it."""

    step: int
    epoch: int
    rate: float | None
    scalars: dict[str, Tensor]
    more: dict[str, float] = field(default_factory=dict)


class CheckerCallback(TrainerCallback):  # type: ignore[misc]  # the library need not be there
    """Writes the run folder of a training with `transformers.Trainer`, and stops it when it is asked to.

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

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:  # noqa: ARG002
        self._deferred, self._ranks = Deferred(), tensors.Ranks()
        self._losses = _Losses()
        self._rate: float | None = None
        self._norm: Tensor | None = None
        self._waiting: _Row | None = None
        self._skipped = 0
        self._undo = ExitStack()  # leaves model and arguments as they were
        self._session.begin(
            resume=state.global_step > 0,
            inside="transformers",
            after=self._undo.close,
            rank=args.process_index,
            world=args.world_size,
            total_steps=state.max_steps,
            total_epochs=math.ceil(state.num_train_epochs),
            config=described(args.to_sanitized_dict),
        )
        self._hook(args, named.get("model"))

    @spared
    def _hook(self, args: Any, model: Any) -> None:
        if args.torch_compile or args.n_gpu > 1:
            self._look_elsewhere(args, "the model cannot be hooked here")
        else:
            self._losses.listen(model, shares=args.world_size if args.average_tokens_across_devices else 1)
            self._undo.callback(self._losses.deafen)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._finish()

    @spared
    def _finish(self) -> None:
        """The last rows, and the end; what the Trainer does after a stop is no longer the run's."""
        try:
            self._settle()
        finally:
            self._session.end()

    # -------------------------------------------------------------------------------------------------- each step

    @spared
    def on_pre_optimizer_step(
        self,
        args: Any,  # noqa: ARG002
        state: Any,  # noqa: ARG002
        control: Any,  # noqa: ARG002
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        self._rate = optimizer.param_groups[0]["lr"]  # of this step: the scheduler moves before the step ends
        self._norm = tensors.gradient_norm(optimizer)

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> Any:
        self._take(args, state, control, named.get("optimizer"))
        self._obey(state, control, named.get("model"))
        self._turn(control)
        return control

    @spared
    def _take(self, args: Any, state: Any, control: Any, optimizer: Any) -> None:
        """One row for one optimizer step."""
        self._settle(flush=False)
        self._session.turn(Phase.TRAIN)
        row = _Row(state.global_step, _epoch(state), self._rate, {})
        if self._losses.heard:
            row.scalars["loss"] = self._losses.step()
        elif self._losses.listens:
            self._look_elsewhere(args, "the model returns no loss")
        self._scaled(optimizer, row)
        norm, self._norm = self._norm, None
        if norm is not None and (not row.scalars or norm.device == row.scalars["loss"].device):
            row.scalars["grad_norm"] = norm
        if control.should_log:
            self._waiting = row  # for the gradient norm before clipping, which comes next
        else:
            self._put(row)

    def _scaled(self, optimizer: Any, row: _Row) -> None:
        """What a loss scaler does: the gradient of a step that it skips is none."""
        row.more |= tensors.loss_scale(getattr(optimizer, "scaler", None))
        if row.more and optimizer.step_was_skipped:
            self._skipped += 1
            self._norm = None
        if row.more:
            row.more["skipped_steps"] = float(self._skipped)

    def _put(self, row: _Row) -> None:
        """Writes a row when its numbers have left the device."""
        log, memory = self._session.log, tensors.memory_mb()
        assert log is not None

        def write(found: dict[str, float]) -> None:
            norm = found.pop("grad_norm", None)
            if norm is not None and not math.isfinite(norm + found.get("loss", 0.0)):
                row.more.setdefault("grad_norm", norm)
            log.step(row.step, learning_rate=row.rate, epoch=row.epoch, gpu_memory_mb=memory, **{**found, **row.more})

        if row.scalars:
            self._deferred.put(row.scalars, write)
        else:
            self._deferred.flush()  # rows come in the order of their steps
            write({})

    def _settle(self, *, flush: bool = True) -> None:
        """Writes what waits: before whatever else is written, and whatever takes long."""
        row, self._waiting = self._waiting, None
        if row is not None:
            self._put(row)
        if flush:
            self._deferred.flush()

    # ------------------------------------------------------------------------------------- what the Trainer logs

    @spared
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "train_runtime" in logs or self._session.phase == Phase.EVALUATE:
            return  # the summary of all, and what `on_evaluate` is about to tell
        found = numbers(logs)
        rate, mean = found.pop("learning_rate", found.pop("lr", None)), found.pop("loss", None)
        row, self._waiting = self._waiting, None
        if mean is not None and self._losses.listens and not self._agrees(args, mean):
            self._look_elsewhere(args, f"the model returns {self._losses.mean:.6g}, the Trainer logs {mean:.6g}")
            if row is not None:
                row.scalars.pop("loss", None)
        if mean is not None and not self._losses.listens:
            found["loss"] = mean
        if row is None:
            row = _Row(state.global_step, _epoch(state), rate, {})
        row.more |= found
        if row.scalars or row.more:
            self._put(row)
        self._turn(control)

    def _agrees(self, args: Any, logged: float) -> bool:
        """Whether the losses that were seen are those that are trained on; asked once, where both are numbers."""
        if self._losses.agreed:
            return True
        seen = self._losses.mean
        if not math.isfinite(seen + logged):
            self._losses.forget()
            return True
        self._losses.agreed = abs(seen - logged) <= (_SAME_ABROAD if args.world_size > 1 else _SAME) * abs(logged)
        return self._losses.agreed

    def _look_elsewhere(self, args: Any, why: str) -> None:
        """Takes the loss from the Trainer's logs from here on, and the filter off them."""
        heard = self._losses.steps > 0
        self._losses.deafen()
        told = f"the loss of each step cannot be seen ({why}): it is the mean over logging_steps"
        if args.fp16:
            told += ", with a NaN filtered out: the gradient norm tells of it (fp16)"
        elif args.logging_nan_inf_filter:
            args.logging_nan_inf_filter = False
            self._undo.callback(setattr, args, "logging_nan_inf_filter", True)
            told += "; logging_nan_inf_filter is off for this training"
        log = self._session.log
        assert log is not None
        log.note(told)
        if heard:
            log.regime_change("the loss is another one from here on, that of the Trainer's logs")

    # ----------------------------------------------------------------------------------- evaluations, checkpoints

    def _turn(self, control: Any) -> None:
        """What the Trainer is about to do, in its order: log, evaluate, save."""
        if control.should_log or self._session.log is None:
            return
        if control.should_evaluate or control.should_save:
            self._deferred.flush()
        after = Phase.CHECKPOINT if control.should_save else Phase.TRAIN
        self._session.turn(Phase.EVALUATE if control.should_evaluate else after)

    @spared
    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        log = self._session.log
        if self._session.phase != Phase.EVALUATE:
            self._settle()
            self._session.turn(Phase.EVALUATE)
        assert log is not None
        log.progress()

    @spared
    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:  # noqa: ARG002
        self._settle()
        log = self._session.log
        assert log is not None
        found = {name: value for name, value in numbers(metrics).items() if not name.endswith(_OF_THE_MACHINE)}
        log.evaluation(state.global_step, **found)
        self._turn(control)

    @spared
    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        log = self._session.log
        assert log is not None
        self._settle()
        path = Path(args.output_dir, f"checkpoint-{state.global_step}").absolute()
        if path.exists():  # a search for hyper-parameters has folders of its own between
            log.checkpoint_saved(path, step=state.global_step)
        self._session.turn(Phase.TRAIN)
        if self._session.kill is not None:
            self._finish()
        else:
            self._turn(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ARG002
        if self._session.kill is not None:  # saved already, or not worth it; and nobody waits for an evaluation
            control.should_evaluate = control.should_save = False
        elif self._session.log is not None:
            self._end_epoch(state, control)
        return control

    @spared
    def _end_epoch(self, state: Any, control: Any) -> None:
        log = self._session.log
        assert log is not None
        self._settle()
        log.epoch_end(_epoch(state), step=state.global_step)
        self._turn(control)

    # ------------------------------------------------------------------------------------------------------- stop

    @spared
    def _obey(self, state: Any, control: Any, model: Any) -> None:
        """Asks the Trainer to stop after this step and to save first, where somebody asks this run to."""
        kill = self._session.kill = self._ranks.agreed(self._session.asked, state.global_step)
        if kill is None:
            return
        control.should_training_stop = True
        control.should_evaluate = control.should_save = False
        if kill.save_checkpoint and not tensors.sound(model):
            log = self._session.log
            assert log is not None
            log.note(f"no checkpoint was written at step {state.global_step}: the weights are not finite")
        elif kill.save_checkpoint:
            control.should_save = True  # and `on_save` is the end
            return
        self._finish()


def _epoch(state: Any) -> int:
    """The epoch that is under way or has just ended, from 0; the Trainer counts the share that is done."""
    return max(0, math.ceil(state.epoch or 0) - 1)


class _Losses:
    """The losses that a model returns in training, on their device."""

    def __init__(self) -> None:
        self.listens = False
        self.agreed = False
        """Whether they were found to be those that the Trainer logs."""
        self.steps = 0
        self._found: list[Tensor] = []
        self._parts = False
        self._sum: Tensor | None = None
        self._counted = 0
        self._handle: Any = None
        self._shares = 1

    def listen(self, model: Any, shares: int) -> None:
        self.listens, self._shares = True, shares
        self._handle = model.register_forward_hook(self._hear, with_kwargs=True)

    def deafen(self) -> None:
        self.listens = False
        self._found = []
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @property
    def heard(self) -> bool:
        return bool(self._found)

    def _hear(self, module: Any, _arguments: Any, named: Mapping[str, Any], output: Any) -> None:
        if not module.training:
            return
        loss = output.get("loss") if isinstance(output, Mapping) else output[0] if isinstance(output, tuple) else None
        if isinstance(loss, Tensor) and loss.dim() == 0:
            self._found.append(loss.detach().clone())  # the Trainer scales its own in place
            self._parts = named.get("num_items_in_batch") is not None

    def step(self) -> Tensor:
        """The loss of the step that ends: the mean of its micro-batches, or their sum, where each is a part of it."""
        loss = tensors.mean(self._found)
        if self._parts:
            loss = loss * (len(self._found) * self._shares)
        self._found = []
        self.steps += 1
        if not self.agreed:
            self._sum = loss if self._sum is None else self._sum + loss
            self._counted += 1
        return loss

    @property
    def mean(self) -> float:
        """Over all steps since the last log, as long as nothing was agreed. It waits for the device."""
        return math.nan if self._sum is None else float(self._sum) / self._counted

    def forget(self) -> None:
        """Begins the mean anew."""
        self._sum, self._counted = None, 0
