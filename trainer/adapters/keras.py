"""Keras 3, on any backend: its run as a run folder, and a request to stop as its own clean stop.

    from trainer.adapters.keras import CheckerCallback

    model.fit(..., callbacks=[CheckerCallback("experiments/my-run")])

**What is seen when.** What Keras tells its callbacks after a batch are means since the begin of the epoch, in which a
divergence shows late. So the loss in a row is calculated back from two of them: that of the batch alone (of the batches
of one `steps_per_execution`). A `train_step` of one's own may return anything: its loss is calculated back where it is
the mean of a `keras.metrics.Mean` of the same name (not on JAX), and else taken as it is. Other metrics stand in the
rows as Keras tells them, as means. A NaN is in the log after its batch. Keras tells no gradient norm and no checkpoint
of its `ModelCheckpoint`; `callback.run_log.checkpoint_saved(path)` does.

On JAX, where the state of a training lies outside of the model, the learning rate is told once per epoch, and Keras
waits for each batch, as it does for every callback that looks at batches.

**A request to stop** (the status file, SIGTERM, Ctrl-C) is obeyed after the batch: the model, optimizer included, in
`checkpoints/` of the run folder, unless the weights are not finite, then `stop_training`. So `fit` returns, and
`callback.kill` is the request; a script may want to leave with exit code 3. To go on:
`keras.models.load_model("experiments/my-run/checkpoints/step-120.keras")`, and `fit`.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np

from contract import CHECKPOINTS, Kill, Phase
from trainer.adapters.session import Session, described, numbers, spared
from trainer.log import RunLog

_SAME = 1e-4
"""How far a mean may be from the same mean in other digits."""

_KNOWN = 1_000_000
"""Batches of an epoch whose losses can be calculated back: a mean in single precision is known to 6e-8 of it, and so
the loss of a batch, then, to a twentieth."""


class CheckerCallback(keras.callbacks.Callback):  # type: ignore[misc]  # the library need not be there
    """Writes the run folder of a training with Keras, and stops it when it is asked to.

    Args:
        folder: the run folder.
        about: arguments of `trainer.log.RunLog`: `metric`, `tiers`, `hypothesis`, `budget`, `config`…

    Raises:
        TypeError: `about` has a name that `RunLog` does not take.
    """

    def __init__(self, folder: str | os.PathLike[str], **about: Any) -> None:
        super().__init__()
        self._session = Session(folder, about, "CheckerCallback")
        self._stateful = keras.backend.backend() != "jax"

    @property
    def run_log(self) -> RunLog | None:
        """The log of the training under way, for notes and declared changes of regime."""
        return self._session.log

    @property
    def kill(self) -> Kill | None:
        """The request that the last training has obeyed; None where it was not asked to stop."""
        return self._session.kill

    # --------------------------------------------------------------------------------------------- begin and end

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        model = self.model
        self._step = first = _iterations(model)
        self._batches, self._epoch = 0, 0
        self._rate: float | None = None
        self._epochs = _Epochs(model)
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        self._session.begin(
            resume=first > 0,
            inside="keras",
            # Who goes on counts from 0 again, or from `initial_epoch`: nobody says how many are left.
            total_steps=steps * epochs if steps and epochs and not first else None,
            total_epochs=epochs,
            config=described(lambda: _config(model)),
        )

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        self._session.end()

    # -------------------------------------------------------------------------------------------------- each step

    @spared
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._epoch, self._batches = epoch, 0
        self._epochs.begin()
        self._rate = _rate(self.model)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._take(batch, logs)
        self._obey()

    @spared
    def _take(self, batch: int, logs: Any) -> None:
        """One row for one batch, or for the batches of one execution."""
        done, self._batches = batch + 1 - self._batches, batch + 1
        self._step += done
        found = numbers(logs or {})
        if "loss" in found:
            found["loss"] = self._epochs.batch(found["loss"], self._batches, done)
        found.pop("learning_rate", None)
        if self._stateful:
            self._rate = _rate(self.model)
        log = self._session.log
        assert log is not None
        log.step(self._step, learning_rate=self._rate, epoch=self._epoch, **found)

    # -------------------------------------------------------------------------------- evaluations, ends of epochs

    @spared
    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        self._session.turn(Phase.EVALUATE)

    @spared
    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        # Not at its end: on JAX, Keras would wait for each batch.
        log = self._session.log
        assert log is not None
        log.progress()

    @spared
    def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002
        self._session.turn(Phase.TRAIN)

    @spared
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        log = self._session.log
        assert log is not None
        found = numbers(logs or {})
        found.pop("learning_rate", None)
        examined = {name: found.pop(name) for name in list(found) if name.startswith("val_")}
        if examined:
            log.evaluation(self._step, **examined)
        if "loss" in found:
            found["train_loss_epoch"] = found.pop("loss")
        log.epoch_end(epoch, step=self._step, **found)

    # ------------------------------------------------------------------------------------------------------- stop

    @spared
    def _obey(self) -> None:
        """Saves and asks Keras to stop, where somebody asks this run to."""
        kill = self._session.asked(self._step)
        if kill is None:
            return
        model = self.model
        model.stop_training = True
        try:
            if kill.save_checkpoint:
                self._save(model)
        except Exception as error:  # noqa: BLE001 - whoever is asked to go, goes; why nothing was saved is told
            self._session.trouble("checkpoint", error)
        self._session.end()  # what Keras does after a stop (the validation of the epoch, say) is no longer the run's

    def _save(self, model: Any) -> None:
        log = self._session.log
        assert log is not None
        if not all(np.isfinite(weights).all() for weights in model.get_weights()):
            log.note(f"no checkpoint was written at step {self._step}: the weights are not finite")
            return
        path = self._session.folder / CHECKPOINTS / f"step-{self._step}.keras"
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp.keras")
        self._session.turn(Phase.CHECKPOINT)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            model.save(beside)
            beside.replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)
        log.checkpoint_saved(path, step=self._step)


class _Epochs:
    """The loss of each batch, from means since the begin of its epoch."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._own = type(model).train_step is not keras.Model.train_step
        self.begin()

    def begin(self) -> None:
        self._sum = 0.0

    def batch(self, told: float, batches: int, done: int) -> float:
        """The mean of the last `done` of the `batches` of this epoch, where `told` is the mean of all of them."""
        if batches > _KNOWN or (self._own and batches > done and not self._is_mean(told)):
            return told
        total, before = told * batches, self._sum
        self._sum = total
        return (total - before) / done if math.isfinite(total) else told

    def _is_mean(self, told: float) -> bool:
        """Whether a `train_step` of the user's own has returned the mean that a metric of the model has."""
        means = [one for one in self._model.metrics if isinstance(one, keras.metrics.Mean) and one.name == "loss"]
        return any(abs(float(one.result()) - told) <= _SAME * abs(told) for one in means)


def _iterations(model: Any) -> int:
    """The steps that the optimizer has taken so far."""
    with suppress(AttributeError, TypeError, ValueError):  # an optimizer of one's own need not count them
        return int(model.optimizer.iterations)
    return 0


def _rate(model: Any) -> float | None:
    with suppress(AttributeError, TypeError, ValueError):  # an optimizer of one's own need not have one
        return float(model.optimizer.learning_rate)
    return None


def _config(model: Any) -> dict[str, Any]:
    """What Keras knows of the training: the optimizer with its settings, and the size of the model.

    Without the names that it makes up: those are counted through a process, and the same experiment would differ.
    """
    optimizer = {**model.optimizer.get_config(), "name": type(model.optimizer).__name__.lower()}
    return {"model": type(model).__name__, "parameters": model.count_params(), "optimizer": optimizer}
