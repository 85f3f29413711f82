import json
import math

import pytest
import torch

from contract import Kill
from trainer import optim, rehearsal, spec
from trainer.data import Loader, Position
from trainer.experiment import record
from trainer.launch import Order, launch
from trainer.log import RunLog
from trainer.loop import train
from trainer.mint import mint
from trainer.run import Run
from trainer.stop import Bell


def start(options, root):
    run = Run(options)
    return run, mint(root, record(root, options, run.legs))


def run_whole(options, root):
    run, folder = start(options, root)
    with RunLog(folder) as log:
        run.start(folder, log, {})
        kill = train(run)
    return run, folder, kill


def losses(rows):
    return {row["step"]: row["metrics"]["train_loss"] for row in rows}


def test_a_whole_run_leaves_everything_behind(tmp_path, small, read_rows, read_status):
    run, folder, kill = run_whole(small(tiers={"must_pass": 9.0, "should_pass": 0.1}), tmp_path)
    assert kill is None
    assert sorted(losses(read_rows(folder, "step"))) == list(range(1, 13))
    assert [row["step"] for row in read_rows(folder, "evaluation")] == [5, 10, 12]
    assert read_status(folder)["state"] == "completed"
    result = json.loads((folder / "result.json").read_text())
    assert (result["oracle_tier"], len(result["shortfalls"])) == ("must_pass", 1)
    assert result["primary_metric"]["value"] == run.best
    assert {path.name for path in (folder / "checkpoints").glob("*.pt")} == {
        "last.pt", "best.pt", "step-00000010.pt", "step-00000012.pt",
    }  # fmt: skip


def test_the_tail_of_an_epoch_has_the_gradient_of_its_mean_loss(small):
    options = small(model={"dropout": 0.0})
    run = Run(options)
    windows = len(run.loader.samples)
    loader = Loader(run.leg.data.train, options, Position(0, windows - 5))  # five left: micro-batches of 4 and 1
    group = loader.next_group(1)
    assert [len(micro.inputs) for micro in group] == [4, 1]
    loss = run.backward(group, 1)
    found = [parameter.grad.clone() for parameter in run.model.parameters()]
    run.model.zero_grad()
    inputs, targets = (torch.cat(parts) for parts in list(zip(*group, strict=True))[:2])
    reference = run.task.mean(run.model(inputs), targets)
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), abs=1e-6)
    for one, parameter in zip(found, run.model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


@pytest.mark.parametrize("limit", [0.0, 1e-3])
def test_the_norm_is_the_one_before_clipping(limit):
    model = torch.nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    assert optim.clip([model.weight], limit).item() == 5.0
    assert model.weight.grad.norm().item() == pytest.approx(limit or 5.0, rel=1e-3)


def stop_at(step, monkeypatch, **fields):
    calls = iter(range(1000))  # the loop asks before every step, so call number n comes after n steps

    def ask(bell):
        bell.kill = Kill(id="k", reason="test", **fields) if next(calls) == step else None
        return bell.kill

    monkeypatch.setattr(Bell, "ask", ask)


@pytest.mark.parametrize("step", [3, 7, 8], ids=["early", "mid-epoch", "at-a-checkpoint"])
def test_a_resumed_run_is_the_undisturbed_run_bit_for_bit(tmp_path, small, read_rows, monkeypatch, step):
    options = small(train={"steps": 36})  # more than one epoch of 28 steps, dropout and accumulation on
    whole, undisturbed, _ = run_whole(options, tmp_path)
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        _, folder, kill = run_whole(options, tmp_path)
    assert kill is not None
    torch.rand(7)
    assert launch(Order(folder, tmp_path, resume=True)) == 0
    assert losses(read_rows(folder, "step")) == losses(read_rows(undisturbed, "step"))
    evaluations = [
        {row["step"]: row["metrics"] for row in read_rows(where, "evaluation")} for where in (folder, undisturbed)
    ]
    assert evaluations[0] == evaluations[1]
    saved = [torch.load(where / "checkpoints/last.pt", weights_only=True) for where in (folder, undisturbed)]
    for name, weight in saved[0]["model"].items():
        assert torch.equal(weight, saved[1]["model"][name])
    assert saved[0]["epoch_loss"] == saved[1]["epoch_loss"]
    assert saved[0]["best"] == saved[1]["best"] == whole.best


EVERY_EPOCH = {"steps": None, "epochs": 3, "eval_every": 0, "checkpoint_every": 0, "checkpoint_epochs": 1}
CADENCES = {
    "every epoch": ({}, [28, 56, 84]),
    "every second epoch, and the last": ({"checkpoint_epochs": 2}, [56, 84]),
    "rarer than the plan is long": ({"checkpoint_epochs": 50}, [84]),
    "never by epochs": ({"checkpoint_epochs": 0}, [84]),
    "by steps as well, once where both are due": ({"checkpoint_every": 14}, [14, 28, 42, 56, 70, 84]),
    "a run planned in steps": ({"epochs": None, "steps": 60}, [60]),
}


@pytest.mark.parametrize(("plan", "saved"), CADENCES.values(), ids=CADENCES.keys())
def test_an_epoch_ends_with_a_checkpoint(tmp_path, small, read_rows, plan, saved):
    _, folder, _ = run_whole(small(train={**EVERY_EPOCH, **plan}), tmp_path)
    assert [row["step"] for row in read_rows(folder, "checkpoint_saved")] == saved


@pytest.mark.parametrize("eval_every", [0, 28], ids=["no-evaluation", "evaluated-at-the-same-step"])
def test_a_run_goes_on_bit_for_bit_from_the_end_of_an_epoch(tmp_path, small, read_rows, monkeypatch, eval_every):
    options = small(train={**EVERY_EPOCH, "eval_every": eval_every})
    _, undisturbed, _ = run_whole(options, tmp_path)
    with monkeypatch.context() as patch:
        stop_at(33, patch, save_checkpoint=False)  # so that only the end of the epoch, step 28, was saved
        _, folder, _ = run_whole(options, tmp_path)
    saved = torch.load(folder / "checkpoints/last.pt", weights_only=True)
    assert (saved["step"], saved["examined_at"]) == (28, eval_every)
    assert launch(Order(folder, tmp_path, resume=True)) == 0
    for event in ("step", "epoch_end", "evaluation"):
        found, expected = (
            {row["step"]: row["metrics"] for row in read_rows(where, event)} for where in (folder, undisturbed)
        )
        assert found == expected
    weights = [torch.load(where / "checkpoints/last.pt", weights_only=True)["model"] for where in (folder, undisturbed)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def poison(run):
    with torch.no_grad():
        next(run.model.parameters()).fill_(math.nan)


def test_a_poisoned_run_goes_on_and_keeps_its_sound_checkpoint(tmp_path, small, read_rows, monkeypatch, capsys):
    monkeypatch.setattr(rehearsal, "before_batch", lambda _options, step: poison(run) if step == 6 else None)
    run, folder = start(small(), tmp_path)
    with RunLog(folder) as log:
        run.start(folder, log, {})
        assert train(run) is None
    found = losses(read_rows(folder, "step"))
    assert found[5] != "NaN"
    assert [found[step] for step in range(6, 13)] == ["NaN"] * 7
    assert torch.load(folder / "checkpoints/last.pt", weights_only=True)["step"] == 5  # where it was best
    assert any("not finite" in row["text"] for row in read_rows(folder, "note"))
    assert "exp-001: no checkpoint was written at step 8: the state is not finite" in capsys.readouterr().out


@pytest.mark.parametrize("other", [False, True], ids=["the-same-data", "other-data"])
def test_the_best_begins_anew_with_other_data(tmp_path, small, read_rows, other):
    change = {"data": {"max_bytes": 3000}} if other else {}
    stages = [{"name": "one"}, {"name": "two", "optimizer": {"lr": 0.0}, "train": {"steps": 3}, **change}]
    run, folder, _ = run_whole(small(stages=stages), tmp_path)
    found = {row["step"]: row["metrics"]["val_loss"] for row in read_rows(folder, "evaluation")}
    later = {step: value for step, value in found.items() if step > 12 or not other}
    assert run.best == min(later.values())
    assert json.loads((folder / "result.json").read_text())["primary_metric"]["value"] == run.best
    told = [row["text"] for row in read_rows(folder, "note")]
    assert any("val_loss is measured on other data from here on" in text for text in told) == other


@pytest.mark.parametrize(("save", "saved"), [(True, 6), (False, 5)], ids=["saves", "as-asked-saves-not"])
def test_a_kill_saves_first_unless_told_otherwise(tmp_path, small, monkeypatch, save, saved):
    stop_at(6, monkeypatch, save_checkpoint=save)
    _, folder, _ = run_whole(small(), tmp_path)
    assert torch.load(folder / "checkpoints/last.pt", weights_only=True)["step"] == saved


def test_the_row_is_on_disk_before_anything_raises(tmp_path, small, read_rows, read_status, monkeypatch):
    run, folder = start(small(), tmp_path)
    monkeypatch.setattr(run, "examine", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError), RunLog(folder) as log:  # noqa: PT012 - the block is what is left
        run.start(folder, log, {})
        train(run)
    assert max(losses(read_rows(folder, "step"))) == 5
    assert read_status(folder)["state"] == "failed"
    assert read_status(folder)["error"].startswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains_and_reports_its_scale(tmp_path, small, read_rows, precision):
    _, folder, _ = run_whole(small(train={"steps": 6, "precision": precision}), tmp_path)
    rows = read_rows(folder, "step")
    assert all(math.isfinite(row["metrics"]["train_loss"]) for row in rows)
    assert ("loss_scale" in rows[0]["metrics"]) == (precision == "fp16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_every_row_arrives(tmp_path, small, read_rows, precision):
    _, folder, _ = run_whole(small(device="cuda", train={"precision": precision}), tmp_path)
    assert sorted(losses(read_rows(folder, "step"))) == list(range(1, 13))


def test_epochs_end_with_their_mean_loss(tmp_path, small, read_rows):
    options = small(train={"steps": 60, "eval_every": 0, "checkpoint_every": 0})
    _, folder, _ = run_whole(options, tmp_path)
    found, ends = losses(read_rows(folder, "step")), read_rows(folder, "epoch_end")
    assert [(row["epoch"], row["step"]) for row in ends] == [(0, 28), (1, 56)]
    assert ends[1]["metrics"]["train_loss_epoch"] == pytest.approx(sum(found[step] for step in range(29, 57)) / 28)


def test_an_unknown_model_is_a_fault_of_the_spec(small):
    with pytest.raises(spec.SpecError, match=r"no such kind; known are gpt, mlp, cnn, and your own .*mean 'gpt'"):
        small(model={"kind": "gtp"})
