import os

import pytest

from trainer.cli import main
from trainer.mint import claim


def everything(root):
    return sorted((path.relative_to(root).as_posix(), path.stat().st_mtime_ns) for path in root.rglob("*"))


def dry(toml, root, *words):
    return main(["run", str(toml), "--dry-run", "--experiments", str(root), *words])


def test_it_leaves_no_trace_but_its_report(tmp_path, small_toml, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = everything(tmp_path)
    assert dry(small_toml, tmp_path / "e") == 0
    said = capsys.readouterr().out
    assert everything(tmp_path) == before
    for told in (
        "model: gpt",
        "samples of 16 tokens per epoch",
        "first step: train loss",
        "first evaluation: val_loss",
        "GiB free",
    ):
        assert told in said
    assert said.endswith("this run can start; nothing was kept\n")


def test_a_pending_experiment_stays_pending_and_keeps_its_number(tmp_path, small_toml, capsys):
    assert main(["new", "--hypothesis", "h", "--spec", str(small_toml), "--experiments", str(tmp_path / "e")]) == 0
    before = everything(tmp_path)
    assert main(["run", str(tmp_path / "e/exp-001"), "--dry-run"]) == 0
    assert main(["run", str(tmp_path / "e/exp-001"), "--dry-run", "--set", "optimizer.lr=0.5"]) == 0  # a child
    assert everything(tmp_path) == before
    assert "2 fault" not in capsys.readouterr().out
    assert claim(tmp_path / "e").name == "exp-002"


def test_a_first_loss_that_is_not_finite_is_a_fault(tmp_path, small_toml, capsys):
    assert dry(small_toml, tmp_path / "e", "--set", "model.init_std=1e30") == 1
    said = capsys.readouterr().out
    assert "FAULT: the first train loss is nan" in said
    assert "FAULT: the first gradient norm is nan" in said
    assert "this run can start" not in said
    assert not (tmp_path / "e").exists()


OWN_LOSSES = """
def good(logits, targets): return (logits.mean((1, 2)) - 1) ** 2
def mean(logits, targets): return logits.mean()
def breaks(logits, targets):
    raise KeyError("no such class")
def wrong(logits): return logits
"""


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("good", None),
        ("mean", "task = 'dry_losses:mean': gives a tensor of shape (); wanted is a loss for each of the 4 samples"),
        ("breaks", "dry_losses.py:5: KeyError: 'no such class'"),
        ("wrong", "FAULT: the first step or evaluation failed: TypeError: wrong() takes 1 positional argument"),
    ],
)
def test_what_somebodys_code_raises_is_a_fault(tmp_path, small_toml, capsys, monkeypatch, loss, said):
    (tmp_path / "dry_losses.py").write_text(OWN_LOSSES)
    monkeypatch.syspath_prepend(tmp_path)
    assert dry(small_toml, tmp_path / "e", "--set", f"task=dry_losses:{loss}") == (said is not None)
    told = capsys.readouterr().out
    assert (said or "this run can start") in told
    assert "GiB free" in told  # what comes after it is looked at as well


@pytest.mark.parametrize("below", [".", "deep/down"], ids=["there", "to-be-created"])
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_to_is_a_fault(tmp_path, small_toml, capsys, below):
    place = tmp_path / "e"
    place.mkdir(mode=0o500)
    assert dry(small_toml, place / below) == 1
    assert f"FAULT: {place} cannot be written to (Permission denied)" in capsys.readouterr().out


def test_a_full_disk_is_a_fault(tmp_path, small_toml, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert dry(small_toml, tmp_path / "e") == 1
    assert f"FAULT: {tmp_path} cannot be written to (No space left on device)" in capsys.readouterr().out


def test_a_place_that_is_a_file_is_a_fault(tmp_path, small_toml, capsys):
    (tmp_path / "file").write_text("")
    assert dry(small_toml, tmp_path / "file/e") == 1
    assert "cannot be written to (Not a directory)" in capsys.readouterr().out


def test_resume_cannot_be_dry(tmp_path, small_toml, capsys):
    main(["new", "--hypothesis", "h", "--spec", str(small_toml), "--experiments", str(tmp_path)])
    assert main(["run", str(tmp_path / "exp-001"), "--dry-run", "--resume"]) == 2
    assert "--resume continues exactly what was there" in capsys.readouterr().err
