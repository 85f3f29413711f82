"""Trainings with the real Trainer of Lightning, some of them beside a real checker."""

import math
import signal

import pytest
from beside import acts, asked_at, checker_of, losses, needed, rows, status

torch, lightning = needed("torch", "lightning.pytorch")
from trainer.adapters.lightning import CheckerCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def module(base=lightning.LightningModule, broken=lambda _step: 1.0):
    class Line(base):
        """A line through points; `broken(step)` gives what its loss is multiplied by."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.save_hyperparameters({"width": 4})
            self.line = torch.nn.Linear(4, 1)
            self.seen = []

        def loss(self, batch):
            return torch.nn.functional.mse_loss(self.line(batch), batch.sum(1, keepdim=True))

        def training_step(self, batch):
            loss = self.loss(batch) * broken(len(self.seen) + 1)
            self.seen.append(loss.item())
            self.log("train_error", loss.detach().sqrt(), on_epoch=True, on_step=False)
            return loss

        def validation_step(self, batch):
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.999**step)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    return Line()


def points(count):
    return torch.utils.data.DataLoader(torch.randn(count, 4, generator=torch.Generator().manual_seed(0)), batch_size=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder that a checker watches."""
    folder = tmp_path_factory.mktemp("watched")
    with checker_of(folder):
        yield folder


def fit(folder, model=None, framework=lightning, callbacks=(), resume=None, validated=True, **options):
    """A training, to its end; returns the trainer and our callback."""
    torch.set_num_threads(1)
    callback = CheckerCallback(folder)
    usual = {
        "default_root_dir": folder / "out",
        "max_steps": 30,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = framework.Trainer(**{**usual, **options}, callbacks=[callback, *callbacks])
    trainer.fit(model or module(), points(64), points(16) if validated else None, ckpt_path=resume)
    return trainer, callback


# ------------------------------------------------------------------------------------------------ what must stay calm


def test_a_healthy_training_is_told_step_by_step_and_left_alone(root):
    model, folder = module(), root / "healthy"
    saves = lightning.callbacks.ModelCheckpoint(folder / "checkpoints", every_n_train_steps=10, save_top_k=-1)
    trainer, callback = fit(folder, model, enable_checkpointing=True, callbacks=[saves])
    assert (trainer.global_step, callback.kill, callback.run_log) == (30, None, None)
    now = status(folder)
    assert (now["state"], now["step"], now["total_steps"]) == ("completed", 30, 30)
    assert (now["config"]["width"], now["config"]["lr"]) == (4, [1e-2])
    assert losses(folder) == {step: pytest.approx(loss) for step, loss in enumerate(model.seen, 1)}
    assert [row["learning_rate"] for row in rows(folder)] == pytest.approx([1e-2 * 0.999**step for step in range(30)])
    assert all(0 < row["metrics"]["grad_norm"] < 100 for row in rows(folder))
    assert [(row["step"], list(row["metrics"])) for row in rows(folder, "evaluation")] == [(16, ["val_loss"])]
    assert next((row["epoch"], list(row["metrics"])) for row in rows(folder, "epoch_end")) == (0, ["train_error"])
    assert [row["checkpoint_path"] for row in rows(folder, "checkpoint_saved")] == [
        f"checkpoints/epoch={step // 17}-step={step}.ckpt" for step in (10, 20, 30)
    ]
    phases = {row["phase"] for row in rows(folder, "phase")}
    assert phases == {"train", "evaluate", "checkpoint"}
    assert {row["phase"] for row in rows(folder)} == {"train"}
    assert not acts(folder)


def test_accumulated_micro_batches_make_one_loss(tmp_path):
    model = module()
    fit(tmp_path, model, accumulate_grad_batches=4, max_steps=8)
    means = [sum(model.seen[begin : begin + 4]) / 4 for begin in range(0, 32, 4)]
    assert list(losses(tmp_path).values()) == pytest.approx(means)


def test_the_gradient_norm_is_that_before_clipping(tmp_path):
    fit(tmp_path, gradient_clip_val=0.001, max_steps=3)
    assert all(row["metrics"]["grad_norm"] > 0.1 for row in rows(tmp_path))


def test_manual_optimization_is_seen_by_what_it_logs(tmp_path):
    class Manual(lightning.LightningModule):
        automatic_optimization = False

        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(4, 1)

        def training_step(self, batch):
            loss = torch.nn.functional.mse_loss(self.line(batch), batch.sum(1, keepdim=True))
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
            self.log("g_loss", loss)

        def configure_optimizers(self):
            weights = [self.line.weight], [self.line.bias]
            return [torch.optim.SGD(some, lr=1e-2) for some in weights]

    fit(tmp_path, Manual(), validated=False, max_steps=20, log_every_n_steps=4)
    assert [row["step"] for row in rows(tmp_path)] == list(range(2, 22, 2))
    assert [row["step"] for row in rows(tmp_path) if "g_loss" in row.get("metrics", ())] == list(range(4, 22, 4))
    assert status(tmp_path)["state"] == "completed"


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_both_names_of_the_framework_are_served(tmp_path, name):
    (framework,) = needed(name)
    with asked_at(tmp_path, 10):
        fit(tmp_path, module(framework.LightningModule), framework, max_steps=5000)
    assert status(tmp_path)["state"] == "killed"
    assert (tmp_path / status(tmp_path)["checkpoints"][-1]["path"]).exists()


# -------------------------------------------------------------------------------------------------------- NaN, stops


def test_a_nan_is_in_the_log_at_once_and_ends_the_training_without_a_poisoned_checkpoint(root):
    model, folder = module(broken=lambda step: math.nan if step >= 25 else 1.0), root / "nan"
    trainer, callback = fit(folder, model, max_steps=20000)
    assert callback.kill.rule == "nonfinite"
    assert [losses(folder)[step] for step in (24, 25)] == [pytest.approx(model.seen[23]), "NaN"]
    assert trainer.global_step < 10000
    now = status(folder)
    assert (now["state"], now["ack"]["id"]) == ("killed", now["kill"]["id"])
    assert not list(folder.glob("checkpoints/*"))


def test_a_stop_leaves_a_checkpoint_from_which_the_same_folder_goes_on(root):
    folder = root / "stopped"
    with asked_at(folder, 20):
        trainer, callback = fit(folder, max_steps=20000, min_epochs=1000, min_steps=10000)
    stopped = trainer.global_step
    assert 20 <= stopped < 10000
    assert callback.kill.reason == "enough"
    now = status(folder)
    assert (now["state"], now["step"], now["ack"]["step"]) == ("killed", stopped, stopped)
    assert now["checkpoints"][-1]["path"] == f"checkpoints/step-{stopped}.ckpt"
    again, callback = fit(folder, max_steps=stopped + 5, resume=folder / f"checkpoints/step-{stopped}.ckpt")
    assert (again.global_step, callback.kill) == (stopped + 5, None)
    assert status(folder)["state"] == "completed"
    assert status(folder)["run_id"] != now["run_id"]
    assert [row["step"] for row in rows(folder)] == list(range(1, stopped + 6))


def test_whoever_cannot_save_goes_all_the_same(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    with asked_at(tmp_path, 10):
        fit(tmp_path, max_steps=20000)
    now = status(tmp_path)
    assert now["state"] == "killed"
    assert now["callback_errors"][0]["stage"] == "checkpoint"


class At(lightning.Callback):
    def __init__(self, act):
        self.act = act

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 3:
            self.act()


def test_sigterm_is_a_request_to_stop_as_well(tmp_path):
    raised = At(lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):  # Lightning's own way of leaving
        fit(tmp_path, callbacks=[raised])
    now = status(tmp_path)
    assert (now["state"], now["ack"]["step"]) == ("killed", 4)
    assert (tmp_path / now["checkpoints"][-1]["path"]).exists()


# --------------------------------------------------------------------------------------------------------- failures


def fail():
    raise ValueError("a mistake in the user's own code")


def test_an_exception_is_named_in_the_run_folder(tmp_path):
    with pytest.raises(ValueError, match="a mistake"):
        fit(tmp_path, callbacks=[At(fail)])
    assert status(tmp_path)["state"] == "failed"
    assert status(tmp_path)["error"].startswith("ValueError: a mistake in the user's own code (")
    fit(tmp_path)
    assert status(tmp_path)["state"] == "completed"


def test_errors_of_the_adapter_end_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.adapters.tensors.gradient_norm", lambda _optimizer: 1 / 0)
    trainer, _ = fit(tmp_path)
    assert trainer.global_step == 30
    assert status(tmp_path)["callback_errors"][0]["error"] == "ZeroDivisionError: division by zero"
    assert len(losses(tmp_path)) == 30
