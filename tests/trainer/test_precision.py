import math
from types import SimpleNamespace

import pytest
import torch

from contract import Kill
from trainer import rehearsal
from trainer.experiment import record
from trainer.launch import Order, launch
from trainer.log import RunLog
from trainer.loop import train
from trainer.mint import mint
from trainer.precision import Precision
from trainer.run import Run
from trainer.stop import Bell

CPU = torch.device("cpu")


def run_whole(options, root):
    run = Run(options)
    folder = mint(root, record(root, options, run.legs))
    with RunLog(folder) as log:
        run.start(folder, log, {})
        train(run)
    return run, folder


@pytest.fixture
def overflow(monkeypatch):
    """Has the gradients of some steps overflow: infinite ones of one parameter, at the end of the backward pass."""

    def at(*steps, name="head.weight"):
        current = SimpleNamespace(step=0)

        def spoiled(gradient):
            return torch.full_like(gradient, math.inf) if current.step in steps else gradient

        def begin(run, *arguments):
            run.model.get_parameter(name).register_hook(spoiled)
            return start(run, *arguments)

        start = Run.start
        monkeypatch.setattr(Run, "start", begin)
        monkeypatch.setattr(rehearsal, "before_batch", lambda _options, step: setattr(current, "step", step))

    return at


FP16 = {"steps": 12, "precision": "fp16", "eval_every": 0, "checkpoint_every": 6}


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lion"])
def test_an_overflow_skips_a_step_and_is_told_of(tmp_path, small, read_rows, overflow, kind):
    overflow(3, 7)
    _, folder = run_whole(small(train=FP16, optimizer={"kind": kind}), tmp_path)
    rows = {row["step"]: row["metrics"] for row in read_rows(folder, "step")}
    assert [step for step, found in rows.items() if "grad_norm" not in found] == [3, 7]
    assert [rows[step]["skipped_steps"] for step in (1, 2, 3, 6, 7, 12)] == [0, 0, 1, 1, 2, 2]
    assert [rows[step]["loss_scale"] / rows[1]["loss_scale"] for step in (2, 3, 7)] == [1.0, 0.5, 0.25]
    notes = [row["text"] for row in read_rows(folder, "note") if "skipped" in row["text"]]
    assert len(notes) == 1  # the first, the tenth, the hundredth
    assert notes[0].startswith("step 3 was skipped, number 1: gradients overflowed; scale 32768 now")


@pytest.mark.parametrize("name", ["head.weight", "blocks.0.perceptron_in.weight"], ids=["adamws", "muons"])
@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="Muon comes with torch 2.9")
def test_of_two_optimizers_both_skip_a_step_or_none(small, name):
    run = Run(small(train=FP16, optimizer={"kind": "muon"}))
    before = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    run.backward(run.loader.next_group(1), 1)
    run.model.get_parameter(name).grad[0, 0] = math.inf
    run.precision.unscale(run.optimizer)
    run.precision.step(run.optimizer)
    assert all(torch.equal(weight, before[name]) for name, weight in run.model.state_dict().items())
    run.optimizer.zero_grad()
    run.backward(run.loader.next_group(2), 2)
    run.precision.unscale(run.optimizer)
    run.precision.step(run.optimizer)
    assert not any(torch.equal(weight, before[name]) for name, weight in run.model.named_parameters())


def test_a_skipped_step_counts_although_it_is_not_logged(tmp_path, small, read_rows, overflow):
    overflow(3, 7, 8)
    _, folder = run_whole(small(train=FP16 | {"log_every": 4}), tmp_path)
    rows = {row["step"]: row["metrics"] for row in read_rows(folder, "step")}
    assert {step: found["skipped_steps"] for step, found in rows.items()} == {4: 1, 8: 3, 12: 3}
    assert ["grad_norm" in found for found in rows.values()] == [True, False, True]


def test_a_step_that_is_skipped_costs_no_checkpoint(tmp_path, small, read_rows, overflow):
    overflow(6, 12)
    _, folder = run_whole(small(train=FP16), tmp_path)
    assert [row["step"] for row in read_rows(folder, "checkpoint_saved")] == [6, 12]


def test_a_resumed_run_counts_on(tmp_path, small, read_rows, overflow, monkeypatch):
    overflow(2, 6)
    _, undisturbed = run_whole(small(train=FP16), tmp_path)
    with monkeypatch.context() as patch:
        calls = iter(range(100))

        def ask(bell):
            bell.kill = Kill(id="k", reason="test") if next(calls) == 4 else None
            return bell.kill

        patch.setattr(Bell, "ask", ask)
        _, folder = run_whole(small(train=FP16), tmp_path)
    assert launch(Order(folder, tmp_path, resume=True)) == 0
    found, expected = ({row["step"]: row["metrics"] for row in read_rows(one, "step")} for one in (folder, undisturbed))
    assert found == expected
    assert [found[step]["skipped_steps"] for step in (1, 2, 5, 6, 12)] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
    ids=["fp32", "tf32", "bf16", "fp16"],
)
def test_the_forward_pass_has_the_format_that_was_asked_for(name, kind):
    precision, layer = Precision(name, CPU), torch.nn.Linear(2, 2)
    with precision.autocast():
        assert layer(torch.ones(1, 2)).dtype == kind
    assert layer.weight.dtype == torch.float32
    assert bool(precision.state_dict()) == (name == "fp16")


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_a_format_without_a_scale_writes_none(tmp_path, small, read_rows, name):
    run, folder = run_whole(small(train={"steps": 3, "precision": name}), tmp_path)
    for row in read_rows(folder, "step"):
        assert math.isfinite(row["metrics"]["grad_norm"])
        assert not {"loss_scale", "skipped_steps"} & row["metrics"].keys()
    assert {item.dtype for item in run.model.parameters()} == {torch.float32}
