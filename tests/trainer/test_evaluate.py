import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from trainer import model, spec, tasks
from trainer.data.samples import Data, Tensors
from trainer.distributed import ALONE
from trainer.dry_run import dry_run
from trainer.evaluate import Evaluator
from trainer.experiment import record
from trainer.log import RunLog
from trainer.loop import train
from trainer.mint import mint
from trainer.precision import Precision
from trainer.run import Run

CPU = torch.device("cpu")
OPTIONS = spec.build({"train": {"steps": 1}, "task": "classification"}, where="test")


class Net(nn.Module):
    """Answers with its inputs, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.parts = nn.ModuleList([nn.BatchNorm1d(3), nn.Dropout(0.9)])
        self.seen = []

    def forward(self, x):
        self.seen.append((len(x), [module.training for module in self.modules()]))
        return x * self.weight


def samples_of(count, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Tensors(
        torch.randn(count, classes, generator=generator), torch.randint(0, classes, (count,), generator=generator)
    )


def evaluator_of(network, *, batch_size=4, metrics=(), task="classification"):
    data = Data(samples_of(1), samples_of(1), task, (3,), 3, "f", {})
    built = tasks.build(OPTIONS.model_copy(update={"task": task}), data)
    return Evaluator(built, model.asked(network), Precision("fp32", CPU), CPU, ALONE, batch_size, metrics)


@pytest.mark.parametrize(
    ("batches", "sizes"),
    [(None, [4, 4, 2]), (1, [4]), (2, [4, 4]), (3, [4, 4, 2]), (9, [4, 4, 2])],
    ids=["all", "one", "two", "exactly", "more-than-there-are"],
)
def test_an_evaluation_is_that_of_all_samples_at_once(batches, sizes):
    network, samples = Net(), samples_of(10)
    found = evaluator_of(network)(network, samples, "val_", batches=batches)
    assert [size for size, _ in network.seen] == sizes
    logits, targets = samples.batch(torch.arange(sum(sizes)))
    assert found["val_loss"] == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), rel=1e-5)
    assert found["val_accuracy"] == pytest.approx((logits.argmax(1) == targets).float().mean().item())
    assert list(found)[0] == "val_loss"  # noqa: RUF015 - the order is the point


def some_in_eval(network):
    network.parts[0].eval()


def all_in_eval(network):
    network.eval()


def only_the_root_in_eval(network):
    network.training = False


@pytest.mark.parametrize("fails", [False, True], ids=["well", "raises"])
@pytest.mark.parametrize(
    "left", [nn.Module.train, some_in_eval, all_in_eval, only_the_root_in_eval], ids=lambda left: left.__name__
)
def test_every_part_keeps_its_mode(left, fails):
    network = Net()
    left(network)
    before = [module.training for module in network.modules()]
    evaluate = evaluator_of(network)
    if fails:
        with pytest.raises(spec.SpecError):
            evaluate(network, Tensors(torch.zeros(4, 3, 3), torch.zeros(4).long()), "val_")
    else:
        evaluate(network, samples_of(5), "val_")
    assert network.seen[0][1] == [False] * 4
    assert [module.training for module in network.modules()] == before
    assert network.weight.grad is None


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_nan_stays_nan(task):
    network, samples = Net(), samples_of(10)
    if task == "regression":
        samples = Tensors(samples.inputs, samples.inputs + 1)
    samples.inputs[5] = math.nan
    metrics = ("f1", "auroc") if task == "classification" else ("mae", "r2")
    found = evaluator_of(network, task=task, metrics=metrics)(network, samples, "val_")
    wrong = {name for name, value in found.items() if math.isnan(value)}
    assert wrong == {"val_loss", *(f"val_{name}" for name in metrics)}


def test_what_is_undefined_is_not_in_it():
    network, samples = Net(), samples_of(10)
    samples.targets[:] = 1
    found = evaluator_of(network, metrics=("auroc", "mcc", "recall"))(network, samples, "val_")
    assert found.keys() == {"val_loss", "val_accuracy", "val_recall"}


@pytest.fixture
def run_of(tmp_path, monkeypatch):
    """A run on data of which the held-out part has only some classes."""

    def build(val_classes, metric="val_auroc"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        rows = [f'{{"x": {number / 10}, "y": "{"ab"[number % 2]}"}}' for number in range(12)]
        (tmp_path / "train.jsonl").write_text("\n".join(rows))
        rows = [row for row in rows if row[-3] in val_classes]
        (tmp_path / "val.jsonl").write_text("\n".join(rows))
        files = {"path": str(tmp_path / "train.jsonl"), "val_path": str(tmp_path / "val.jsonl")}
        document = {
            "model": {"kind": "mlp", "layers": 1, "width": 4},
            "data": {"kind": "jsonl", "features": ["x"], "target": "y", **files},
            "train": {"steps": 4, "batch_size": 4, "eval_every": 2},
            "evaluate": {"metrics": ["auroc"]},
            "metric": {"name": metric, "direction": "max"},
        }
        return Run(spec.build(document, where="test"))

    return build


@pytest.mark.parametrize(("classes", "defined"), [("ab", True), ("a", False)], ids=["defined", "undefined"])
def test_a_metric_that_is_undefined_breaks_nothing(run_of, tmp_path, read_rows, capsys, classes, defined):
    assert dry_run(run_of(classes), tmp_path) == 0
    assert ("is not defined yet" in capsys.readouterr().out) != defined
    run = run_of(classes)
    folder = mint(tmp_path / "runs", record(tmp_path / "runs", run.options, run.legs))
    with RunLog(folder) as log:
        run.start(folder, log, {})
        assert train(run) is None
    assert ["val_auroc" in row["metrics"] for row in read_rows(folder, "evaluation")] == [defined] * 2
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "completed"
    assert (result["primary_metric"]["value"] is not None) == defined
    assert (folder / "checkpoints/best.pt").exists() == defined
    assert (folder / "checkpoints/last.pt").exists()


def test_a_metric_that_nothing_gives_is_refused(run_of):
    with pytest.raises(spec.SpecError, match=r"'val_mcc': a classification task gives val_loss, val_accuracy, val_au"):
        run_of("ab", metric="val_mcc")


def test_only_what_is_examined_is_averaged_over(run_of):
    run = run_of("ab")
    whole = run.evaluator(run.model, run.leg.data.val, "test_")
    first = run.evaluator(run.model, run.leg.data.val, "val_", batches=1)
    assert whole["test_loss"] != first["val_loss"]
    assert replace(run.evaluator, batch_size=5)(run.model, run.leg.data.val, "test_") == pytest.approx(whole)
