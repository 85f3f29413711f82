import json
import math
import shutil

import pytest
import torch

from trainer.checkpoints import files as checkpoint
from trainer.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained experiment; what a test changes, it changes in a copy."""
    root = tmp_path_factory.mktemp("trained")
    words = [f"--set={key}={value}" for key, value in SMALL.items()]
    (root / "small.toml").write_text("")
    assert main(["run", str(root / "small.toml"), "--experiments", str(root), *words]) == 0
    return root / "exp-001"


SMALL = {
    "model.layers": 1, "model.heads": 2, "model.width": 16, "model.context": 16, "data.max_bytes": 4000,
    "data.val_bytes": 500, "optimizer.lr": 1e-2, "train.steps": 8, "train.batch_size": 4, "train.eval_every": 4,
    "train.checkpoint_every": 4,
}  # fmt: skip


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "exp-001")


def evaluations(folder):
    path = folder / "evaluations.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def hash_of(folder, name):
    return (folder / f"checkpoints/{name}.pt.sha256").read_text().split()[0]


def poison(folder, name):
    """A checkpoint that is whole, with weights that are not."""
    state = checkpoint.load(folder / f"checkpoints/{name}.pt")
    state["model"] = {
        key: torch.full_like(value, math.nan) if value.is_floating_point() else value
        for key, value in state["model"].items()
    }
    checkpoint.save(folder, name, state)


def test_weights_that_give_nan_are_attached_and_are_no_pass(folder):
    poison(folder, "best")
    assert main(["eval", str(folder)]) == 1
    (entry,) = evaluations(folder)
    assert entry["metrics"]["val_loss"] == "NaN"


@pytest.mark.parametrize("damage", ["cut", "changed", "hash-gone", "gone", "no-checkpoint"])
def test_a_damaged_checkpoint_is_not_examined(folder, capsys, damage):
    path = folder / "checkpoints/best.pt"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "hash-gone":
        (folder / "checkpoints/best.pt.sha256").unlink()
    elif damage == "gone":
        path.unlink()
    else:
        checkpoint.save(folder, "best", {"step": 3})
    assert main(["eval", str(folder)]) == 2
    assert "best.pt" in capsys.readouterr().err
    assert evaluations(folder) == []


@pytest.mark.parametrize("name", ["best", "last"])
def test_the_finding_names_the_checkpoint_by_its_hash(folder, capsys, name):
    assert main(["eval", str(folder), "--checkpoint", name]) == 0
    (entry,) = evaluations(folder)
    assert entry["checkpoint"] == {"path": f"checkpoints/{name}.pt", "sha256": hash_of(folder, name), "step": 8}
    assert entry["metric"] == {"name": "val_loss", "direction": "min"}
    assert math.isfinite(entry["metrics"]["val_loss"])
    assert {"config", "code", "environment"} <= set(entry["fingerprints"])
    assert f"checkpoints/{name}.pt on validation" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    ["kept/best.pt", "{here}/exp-001/kept/best.pt", "exp-001/kept/best.pt", "../exp-001/kept/best.pt"],
    ids=["from-the-folder", "absolute", "from-where-we-are", "there-and-back"],
)
def test_a_checkpoint_may_be_any_file_in_the_folder(folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "checkpoints", folder / "kept")
    assert main(["eval", "exp-001", "--checkpoint", name.format(here=tmp_path), "--experiments", "."]) == 0
    (entry,) = evaluations(folder)
    assert entry["checkpoint"]["path"] == "kept/best.pt"


@pytest.mark.parametrize(
    "name",
    ["{here}/saved/best.pt", "saved/best.pt", "../saved/best.pt", "../../saved/best", "link.pt", "nowhere/../../x"],
    ids=["absolute", "from-where-we-are", "from-the-folder", "from-the-checkpoints", "a-link", "nothing-there"],
)
def test_a_checkpoint_elsewhere_is_refused(folder, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "checkpoints", tmp_path / "saved")
    (folder / "link.pt").symlink_to(tmp_path / "saved/best.pt")
    assert main(["eval", "exp-001", "--checkpoint", name.format(here=tmp_path), "--experiments", "."]) == 2
    assert "lies outside of exp-001" in capsys.readouterr().err
    assert evaluations(folder) == []


@pytest.mark.parametrize("there", [True, False], ids=["another-name", "none-at-all"])
def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(folder, capsys, there):
    if not there:
        shutil.rmtree(folder / "checkpoints")
    assert main(["eval", str(folder), "--checkpoint", "bets"]) == 2
    said = capsys.readouterr().err
    assert f"--checkpoint bets: no {folder}/bets; there is {'best, last, step-' if there else 'none yet'}" in said


def test_all_of_the_data_is_examined_and_each_finding_is_kept(folder, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("A text that it was neither trained nor validated on. " * 10)
    assert main(["eval", str(folder)]) == 0
    assert main(["eval", str(folder), "--data", str(other)]) == 0
    own, new = evaluations(folder)
    assert (own["data"]["name"], new["data"]["name"]) == ("validation", "other.txt")
    assert new["data"]["samples"] == (530 - 1) // 16
    assert own["data"]["hash"] != new["data"]["hash"]
    assert own["metrics"] != new["metrics"]
    assert own["id"] != new["id"]


@pytest.mark.parametrize("content", [None, b"", b"short"], ids=["none", "empty", "shorter-than-the-context"])
def test_data_that_cannot_be_examined_is_told(folder, tmp_path, capsys, content):
    path = tmp_path / "data.txt"
    if content is not None:
        path.write_bytes(content)
    assert main(["eval", str(folder), "--data", str(path)]) == 2
    assert f"--data {path}" in capsys.readouterr().err
    assert evaluations(folder) == []


def test_an_experiment_of_another_program_is_told(tmp_path, capsys):
    words = ["--hypothesis", "h", "--set", "metric.name=m", "--set", "metric.direction=min"]
    main(["new", "--external", *words, "--experiments", str(tmp_path)])
    assert main(["eval", "exp-001", "--experiments", str(tmp_path)]) == 2
    assert "exp-001/experiment.json" in capsys.readouterr().err
