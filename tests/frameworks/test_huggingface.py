"""Trainings with the real Trainer of transformers, some of them beside a real checker."""

import itertools
import math
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from beside import acts, asked_at, checker_of, losses, needed, rows, status
from processes import wait_until

torch, transformers, _ = needed("torch", "transformers", "accelerate")
from trainer.adapters.huggingface import CheckerCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

SIZE = {
    "n_layer": 1,
    "n_embd": 16,
    "n_head": 2,
    "vocab_size": 32,
    "n_positions": 16,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


class Model(transformers.GPT2LMHeadModel):
    """A small GPT; `broken(step)` gives what its loss is multiplied by in training."""

    broken = staticmethod(lambda _step: 1.0)

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(transformers.GPT2Config(**SIZE))
        self.steps = 0
        self.seen = []

    def forward(self, input_ids=None, labels=None, **named):
        found = super().forward(input_ids, labels=labels, **named)
        if self.training:
            self.steps += 1
            found.loss = found.loss * self.broken(self.steps)
            self.seen.append(found.loss.item())
        return found


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder that a checker watches."""
    folder = tmp_path_factory.mktemp("watched")
    with checker_of(folder):
        yield folder


def samples(count=64, labels=None):
    made = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        ids = torch.randint(0, 32, (16,), generator=made)
        found.append({"input_ids": ids, "labels": ids if labels is None else torch.full_like(ids, labels)})
    return found


def fit(folder, model=None, data=None, kind=transformers.Trainer, resume=None, callbacks=(), **options):
    """A training, to its end; returns the trainer and our callback."""
    torch.set_num_threads(1)
    callback = CheckerCallback(folder)
    usual = {
        "output_dir": str(folder / "out"),
        "max_steps": 30,
        "per_device_train_batch_size": 4,
        "logging_steps": 10,
        "save_strategy": "no",
        "learning_rate": 1e-3,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
    }
    trainer = kind(
        model=model or Model(),
        args=transformers.TrainingArguments(**{**usual, **options}),
        train_dataset=data or samples(),
        eval_dataset=samples(8),
        callbacks=[callback, *callbacks],
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer, callback


# ------------------------------------------------------------------------------------------------ what must stay calm


def test_a_healthy_training_is_told_step_by_step_and_left_alone(root):
    model = Model()
    folder = root / "healthy"
    trainer, callback = fit(folder, model, eval_strategy="steps", eval_steps=10, save_strategy="steps", save_steps=15)
    assert callback.kill is None
    assert callback.run_log is None
    now = status(folder)
    assert (now["state"], now["step"], now["total_steps"], now["total_epochs"]) == ("completed", 30, 30, 2)
    assert now["config"]["learning_rate"] == 1e-3
    assert losses(folder) == {step: pytest.approx(loss, rel=1e-6) for step, loss in enumerate(model.seen, 1)}
    logged = [log for log in trainer.state.log_history if "grad_norm" in log]
    assert {row["step"]: row["metrics"]["grad_norm"] for row in rows(folder) if "grad_norm" in row["metrics"]} == {
        log["step"]: log["grad_norm"] for log in logged
    }
    rates = {row["step"]: row["learning_rate"] for row in rows(folder)}
    assert [rates[log["step"]] for log in logged] == [log["learning_rate"] for log in logged]
    assert [row["step"] for row in rows(folder, "evaluation")] == [10, 20, 30]
    assert list(rows(folder, "evaluation")[0]["metrics"]) == ["eval_loss"]
    assert [Path(row["checkpoint_path"]).name for row in rows(folder, "checkpoint_saved")] == [
        "checkpoint-15",
        "checkpoint-30",
    ]
    assert not acts(folder)
    assert trainer.args.logging_nan_inf_filter  # nobody's arguments are touched without need
    assert not model._forward_hooks


def test_phases_tell_evaluations_and_checkpoints_apart(tmp_path):
    fit(tmp_path, max_steps=4, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2)
    phases = [row["phase"] for row in rows(tmp_path, "phase")]
    assert [name for name, _ in itertools.groupby(phases)] == [
        "train",
        *["evaluate", "train", "checkpoint", "train"] * 2,
    ]
    assert {row["phase"] for row in rows(tmp_path)} == {"train"}


def test_a_batch_without_labels_is_nan_and_harmless(root):
    """Its loss is 0 / 0, its gradient 0: the Trainer lives with that, and so must who watches."""
    data = samples()
    data[40:44] = samples(4, labels=-100)
    folder = root / "harmless"
    fit(folder, data=data, train_sampling_strategy="sequential", max_steps=40)
    assert status(folder)["state"] == "completed"
    bad = [row for row in rows(folder) if row["metrics"]["loss"] == "NaN"]
    assert [(row["step"], row["metrics"]["grad_norm"]) for row in bad] == [(11, 0.0), (27, 0.0)]
    assert "requested" not in acts(folder)


@pytest.mark.parametrize("counts", [True, False], ids=["by tokens", "by batches"])
def test_accumulated_micro_batches_make_one_loss(tmp_path, counts):
    model = Model()
    model.accepts_loss_kwargs = counts
    trainer, _ = fit(tmp_path, model, gradient_accumulation_steps=4, max_steps=8, logging_steps=1)
    logged = {log["step"]: log["loss"] for log in trainer.state.log_history if "loss" in log}
    assert losses(tmp_path) == pytest.approx(logged, rel=1e-5)
    assert not rows(tmp_path, "note")


# -------------------------------------------------------------------------------------------------------- NaN, stops


def test_a_nan_is_in_the_log_at_once_and_ends_the_training_without_a_poisoned_checkpoint(root):
    model = Model()
    model.broken = lambda step: math.nan if step >= 25 else 1.0
    folder = root / "nan"
    trainer, callback = fit(folder, model, max_steps=5000, logging_steps=500, save_strategy="steps", save_steps=20)
    assert callback.kill.rule == "nonfinite"
    assert losses(folder)[24] < 10
    assert losses(folder)[25] == "NaN"
    assert 25 < trainer.state.global_step < 2000
    now = status(folder)
    assert (now["state"], now["ack"]["id"]) == ("killed", now["kill"]["id"])
    assert any("the weights are not finite" in note for note in now["notes"]) or not callback.kill.save_checkpoint
    saved = [row["step"] for row in rows(folder, "checkpoint_saved")]
    assert saved[0] == 20
    assert trainer.state.global_step not in saved


def test_a_stop_leaves_a_checkpoint_from_which_the_same_folder_goes_on(root):
    folder = root / "stopped"
    with asked_at(folder, 20):
        trainer, callback = fit(folder, max_steps=3000, logging_steps=7, eval_strategy="epoch")
    stopped = trainer.state.global_step
    assert 20 <= stopped < 3000
    assert callback.kill.reason == "enough"
    now = status(folder)
    assert (now["state"], now["step"], now["ack"]["step"]) == ("killed", stopped, stopped)
    assert now["checkpoints"][-1]["path"] == f"out/checkpoint-{stopped}"
    assert (folder / f"out/checkpoint-{stopped}/optimizer.pt").exists()
    again, callback = fit(folder, max_steps=stopped + 5, resume=True)
    assert (again.state.global_step, callback.kill) == (stopped + 5, None)
    assert status(folder)["state"] == "completed"
    assert status(folder)["run_id"] != now["run_id"]
    steps = [row["step"] for row in rows(folder)]
    assert steps == list(range(1, stopped + 6))


def test_who_wants_no_checkpoint_gets_none(tmp_path):
    with asked_at(tmp_path, 5, save_checkpoint=False):
        fit(tmp_path, max_steps=3000, save_strategy="epoch", eval_strategy="epoch")
    assert status(tmp_path)["state"] == "killed"
    assert not (tmp_path / f"out/checkpoint-{status(tmp_path)['step']}").exists()


def test_sigterm_is_a_request_to_stop_as_well(tmp_path):
    class Terminates(transformers.TrainerCallback):
        def on_step_end(self, _args, state, _control, **_):
            if state.global_step == 3:
                signal.raise_signal(signal.SIGTERM)

    _, callback = fit(tmp_path, callbacks=[Terminates()])
    assert callback.kill.requested_by == "signal"
    assert (status(tmp_path)["state"], status(tmp_path)["step"]) == ("killed", 4)


# ------------------------------------------------------------------------------- losses that the model does not return


class OwnLoss(transformers.Trainer):
    """The loss is computed outside of the model."""

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        labels = inputs.pop("labels")
        logits = model(**inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        if self.state.global_step >= 24:
            loss = loss * math.nan
        return (loss, None) if return_outputs else loss


def test_a_loss_of_ones_own_is_the_trainers_mean_without_its_filter(root):
    class Silent(Model):
        def forward(self, input_ids=None, labels=None, **named):
            return transformers.GPT2LMHeadModel.forward(self, input_ids, labels=labels, **named)

    folder = root / "own"
    trainer, callback = fit(folder, Silent(), kind=OwnLoss, max_steps=5000)
    assert callback.kill.rule in ("nonfinite", "hidden_nan")
    logged = {log["step"]: log["loss"] for log in trainer.state.log_history if "loss" in log and log["step"] <= 20}
    assert {step: loss for step, loss in losses(folder).items() if step <= 20} == logged
    assert losses(folder)[30] == "NaN"
    assert [row["step"] for row in rows(folder)][:31] == list(range(1, 32))
    bad = next(row for row in rows(folder) if row.get("metrics", {}).get("grad_norm") == "NaN")
    assert bad["step"] == 25
    note = rows(folder, "note")[0]["text"]
    assert "the model returns no loss" in note
    assert "logging_nan_inf_filter is off" in note
    assert trainer.args.logging_nan_inf_filter  # as it was


class Added(transformers.Trainer):
    """The loss of the model is a part of what is trained on."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        return (loss + 1.0, outputs) if return_outputs else loss + 1.0


def test_a_loss_that_is_only_a_part_is_found_out_at_the_first_log(tmp_path):
    trainer, _ = fit(tmp_path, kind=Added, max_steps=30)
    note = rows(tmp_path, "note")[0]["text"]
    assert "the model returns 3." in note
    assert "the Trainer logs 4." in note
    assert len(rows(tmp_path, "regime_change")) == 1
    told = losses(tmp_path)
    assert [step for step in told if step > 9] == [10, 20, 30]
    logged = {log["step"]: log["loss"] for log in trainer.state.log_history if "loss" in log}
    assert {step: told[step] for step in (10, 20, 30)} == logged


@pytest.mark.parametrize(("fp16", "stays"), [(False, False), (True, True)])
def test_the_filter_stays_where_a_loss_scaler_skips_steps(tmp_path, fp16, stays):
    """There the Trainer's mean would be NaN for ever after a single step that was skipped."""
    args = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    args.fp16, args.torch_compile = fp16, True
    callback = CheckerCallback(tmp_path)
    callback.on_train_begin(args, transformers.TrainerState(max_steps=3), None)
    assert args.logging_nan_inf_filter is stays
    assert "the model cannot be hooked here" in rows(tmp_path, "note")[0]["text"]
    callback.on_train_end(args, None, None)
    assert args.logging_nan_inf_filter


def test_a_step_that_a_loss_scaler_skips_has_no_gradient(tmp_path):
    class Scaled(SimpleNamespace):
        param_groups: ClassVar = [{"lr": 0.1, "params": [torch.nn.Parameter(torch.zeros(1))]}]
        scaler = SimpleNamespace(get_scale=lambda: 1024.0)

    args = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    callback, state = CheckerCallback(tmp_path), transformers.TrainerState(max_steps=3)
    callback.on_train_begin(args, state, None, model=Model())
    for state.global_step, skipped in ((1, True), (2, False)):
        optimizer = Scaled(step_was_skipped=skipped)
        optimizer.param_groups[0]["params"][0].grad = torch.tensor([math.inf])
        callback.on_pre_optimizer_step(args, state, None, optimizer=optimizer)
        callback.on_step_end(args, state, transformers.TrainerControl(), optimizer=optimizer)
    callback.on_train_end(args, state, None)
    assert [row["metrics"] for row in rows(tmp_path)] == [
        {"loss_scale": 1024.0, "skipped_steps": 1.0},
        {"loss_scale": 1024.0, "skipped_steps": 1.0, "grad_norm": "Infinity"},
    ]


# --------------------------------------------------------------------------------------------------------- failures


class Fails(transformers.TrainerCallback):
    def on_step_end(self, _args, state, _control, **_):
        if state.global_step == 3:
            raise ValueError("a mistake in the user's own code")


def test_an_exception_that_the_program_catches_is_a_failed_run(tmp_path):
    model = Model()
    with pytest.raises(ValueError, match="a mistake"):
        fit(tmp_path, model, callbacks=[Fails()])
    wait_until(lambda: status(tmp_path)["state"] == "failed", 10)
    assert "left before its end" in status(tmp_path)["error"]
    wait_until(lambda: not model._forward_hooks, 5)


def test_a_training_that_begins_anew_with_smaller_batches_is_another_attempt(tmp_path):
    class Memory(transformers.TrainerCallback):
        left = 1

        def on_step_end(self, _args, state, _control, **_):
            if state.global_step == 3 and self.left:
                self.left = 0
                raise torch.OutOfMemoryError("CUDA out of memory.")

    model = Model()
    trainer, _ = fit(tmp_path, model, callbacks=[Memory()], auto_find_batch_size=True)
    assert trainer.state.global_step == 30
    assert len(model._forward_hooks) == 0
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, *range(1, 31)]
    ends = [row["text"] for row in rows(tmp_path, "training_end")]
    assert ends[0].startswith("failed: the training was left before its end")
    assert ends[1:] == ["completed"]


def test_errors_of_the_adapter_end_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.adapters.huggingface._epoch", lambda _state: 1 / 0)
    trainer, _ = fit(tmp_path)
    assert trainer.state.global_step == 30
    now = status(tmp_path)
    assert now["state"] == "completed"
    assert now["callback_errors"][0]["error"] == "ZeroDivisionError: division by zero"


def test_a_mistyped_argument_is_named_before_anything_is_trained(tmp_path):
    with pytest.raises(TypeError, match="CheckerCallback has no argument 'metrc'; did you mean 'metric'"):
        CheckerCallback(tmp_path, metrc={})
