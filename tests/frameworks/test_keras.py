"""Trainings with the real Keras, on its torch backend, some of them beside a real checker."""

import math
import os
import signal

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
from beside import acts, asked_at, checker_of, losses, needed, rows, status
from processes import wait_until

torch, keras, np = needed("torch", "keras", "numpy")
from trainer.adapters.keras import CheckerCallback, _Epochs  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder that a checker watches."""
    folder = tmp_path_factory.mktemp("watched")
    with checker_of(folder):
        yield folder


class Squares(keras.losses.Loss):
    """Squared errors; `broken(batch)` gives what the loss is multiplied by in training."""

    def __init__(self, broken=lambda _batch: 1.0):
        super().__init__(reduction="sum_over_batch_size")
        self.broken, self.seen = broken, []

    def call(self, y_true, y_pred):
        return keras.ops.square(y_true - y_pred)

    def __call__(self, y_true, y_pred, sample_weight=None):
        found = super().__call__(y_true, y_pred, sample_weight) * self.broken(len(self.seen) + 1)
        if found.requires_grad:
            self.seen.append(found.item())
        return found


def line(loss=None, kind=keras.Sequential, **options):
    keras.utils.set_random_seed(0)
    model = kind([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss=loss or Squares(), metrics=["mae"], **options)
    return model


def points(count):
    inputs = np.random.default_rng(0).normal(size=(count, 4)).astype("float32")
    return inputs, inputs.sum(1, keepdims=True)


def fit(folder, model=None, samples=64, epochs=2, callbacks=(), **options):
    """A training, to its end; returns the model and our callback."""
    torch.set_num_threads(1)
    callback, model = CheckerCallback(folder), model or line()
    inputs, targets = points(samples)
    usual = {"batch_size": 4, "verbose": 0, "validation_data": points(16)}
    model.fit(inputs, targets, epochs=epochs, callbacks=[callback, *callbacks], **{**usual, **options})
    return model, callback


# ------------------------------------------------------------------------------------------------ what must stay calm


def test_a_healthy_training_is_told_batch_by_batch_and_left_alone(root):
    loss, folder = Squares(), root / "healthy"
    model, callback = fit(folder, line(loss))
    assert (int(model.optimizer.iterations), callback.kill, callback.run_log) == (32, None, None)
    now = status(folder)
    assert (now["state"], now["step"], now["total_steps"], now["total_epochs"]) == ("completed", 32, 32, 2)
    assert now["config"]["optimizer"]["name"] == "adam"
    assert losses(folder) == {step: pytest.approx(value, rel=1e-4) for step, value in enumerate(loss.seen, 1)}
    assert [row["learning_rate"] for row in rows(folder)] == pytest.approx([1e-2] * 32)
    assert [row["epoch"] for row in rows(folder)] == [0] * 16 + [1] * 16
    evaluated = [(row["step"], set(row["metrics"])) for row in rows(folder, "evaluation")]
    assert evaluated == [(16, {"val_loss", "val_mae"}), (32, {"val_loss", "val_mae"})]
    assert [set(row["metrics"]) for row in rows(folder, "epoch_end")] == [{"train_loss_epoch", "mae"}] * 2
    assert [row["phase"] for row in rows(folder, "phase")] == ["train", *["evaluate", "train"] * 2]
    assert not acts(folder)


TOLD = {
    "one batch after the other": ([(1, 4.0), (2, 3.0), (3, 3.0)], [4.0, 2.0, 3.0]),
    "four of one execution": ([(4, 4.0), (8, 3.0), (10, 3.0)], [4.0, 2.0, 3.0]),
    "NaN to the end": ([(1, 4.0), (2, math.nan), (3, math.nan)], [4.0, math.nan, math.nan]),
    "infinity first": ([(1, 4.0), (2, math.inf), (3, math.nan)], [4.0, math.inf, math.nan]),
    "too many to tell": ([(1_000_000, 2.0), (1_000_001, 2.1)], [2.0, 2.1]),
}


@pytest.mark.parametrize(("means", "found"), TOLD.values(), ids=TOLD)
def test_the_loss_of_a_batch_is_calculated_back_from_means(means, found):
    epochs, before, back = _Epochs(line()), 0, []
    for batches, mean in means:
        back.append(epochs.batch(mean, batches, batches - before))
        before = batches
    assert back == pytest.approx(found, nan_ok=True)


class Raw(keras.Sequential):
    """Returns the loss of the batch itself."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        loss.backward()
        gradients = [weight.value.grad for weight in self.trainable_weights]
        with torch.no_grad():
            self.optimizer.apply(gradients, self.trainable_weights)
        return {"loss": loss}


class Averaged(Raw):
    """Returns the mean of a metric, as Keras itself does."""

    def train_step(self, data):
        self.metrics[0].update_state(super().train_step(data)["loss"].detach())
        return {"loss": self.metrics[0].result()}


@pytest.mark.parametrize("kind", [Raw, Averaged])
def test_a_train_step_of_ones_own_is_told_as_it_is_meant(tmp_path, kind):
    loss = Squares()
    fit(tmp_path, line(loss, kind=kind), validation_data=None)
    assert list(losses(tmp_path).values()) == pytest.approx(loss.seen, rel=1e-4)


def test_a_hundred_thousand_batches_into_an_epoch_the_loss_of_one_is_still_known():
    epochs, total, count = _Epochs(line()), 0.0, 100_000
    for batch in range(1, count + 1):
        loss = 2.0 + math.sin(batch)
        total += loss
        found = epochs.batch(float(np.float32(total / batch)), batch, 1)
        assert found == pytest.approx(loss, abs=0.05)


def test_a_second_fit_goes_on_where_the_first_ended(tmp_path):
    model, _ = fit(tmp_path)
    fit(tmp_path, model, initial_epoch=2, epochs=3)
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 49))
    assert rows(tmp_path)[-1]["epoch"] == 2


# -------------------------------------------------------------------------------------------------------- NaN, stops


def test_a_nan_is_in_the_log_at_once_and_ends_the_training_without_a_poisoned_checkpoint(root):
    loss, folder = Squares(lambda batch: math.nan if batch >= 25 else 1.0), root / "nan"
    model, callback = fit(folder, line(loss), samples=64000, epochs=5)
    assert callback.kill.rule == "nonfinite"
    assert [losses(folder)[step] for step in (24, 25)] == [pytest.approx(loss.seen[23], rel=1e-4), "NaN"]
    assert int(model.optimizer.iterations) < 16000
    now = status(folder)
    assert (now["state"], now["ack"]["id"]) == ("killed", now["kill"]["id"])
    assert not list(folder.glob("checkpoints/*"))


def test_a_stop_leaves_a_model_from_which_the_same_folder_goes_on(root):
    folder = root / "stopped"
    with asked_at(folder, 20):
        model, callback = fit(folder, line("mse"), samples=6400, epochs=100)
    stopped = int(model.optimizer.iterations)
    assert 20 <= stopped < 160000
    assert callback.kill.reason == "enough"
    now = status(folder)
    assert (now["state"], now["step"], now["ack"]["step"]) == ("killed", stopped, stopped)
    assert now["checkpoints"][-1]["path"] == f"checkpoints/step-{stopped}.keras"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step-{stopped}.keras"]
    again = keras.models.load_model(folder / f"checkpoints/step-{stopped}.keras")
    _, callback = fit(folder, again, epochs=1)
    assert callback.kill is None
    assert status(folder)["state"] == "completed"
    assert [row["step"] for row in rows(folder)] == list(range(1, stopped + 17))


def test_a_poisoned_model_is_not_saved(tmp_path):
    loss = Squares(lambda batch: math.nan if batch >= 5 else 1.0)
    with asked_at(tmp_path, 20):
        fit(tmp_path, line(loss), samples=6400, epochs=100)
    assert status(tmp_path)["state"] == "killed"
    assert any("the weights are not finite" in note for note in status(tmp_path)["notes"])
    assert not list(tmp_path.glob("checkpoints/*"))


class At(keras.callbacks.Callback):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def on_train_batch_begin(self, batch, logs=None):  # noqa: ARG002
        if batch == 3:
            self.act()


def test_sigterm_is_a_request_to_stop_as_well(tmp_path):
    _, callback = fit(tmp_path, callbacks=[At(lambda: signal.raise_signal(signal.SIGTERM))])
    assert callback.kill.requested_by == "signal"
    assert (status(tmp_path)["state"], status(tmp_path)["step"]) == ("killed", 4)


# --------------------------------------------------------------------------------------------------------- failures


def fail():
    raise ValueError("a mistake in the user's own code")


def test_an_exception_that_the_program_catches_is_a_failed_run(tmp_path):
    with pytest.raises(ValueError, match="a mistake"):
        fit(tmp_path, callbacks=[At(fail)])
    wait_until(lambda: status(tmp_path)["state"] == "failed", 10)
    assert "left before its end" in status(tmp_path)["error"]


def test_errors_of_the_adapter_end_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.adapters.keras._rate", lambda _model: 1 / 0)
    model, _ = fit(tmp_path)
    assert int(model.optimizer.iterations) == 32
    assert status(tmp_path)["callback_errors"][0]["error"] == "ZeroDivisionError: division by zero"


def test_an_evaluation_outside_of_a_training_writes_nothing(tmp_path):
    model, callback = fit(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    model.evaluate(*points(16), verbose=0, callbacks=[callback])
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
