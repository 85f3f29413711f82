import math
import os

import pytest

from trainer.checkpoints import files, retention
from trainer.checkpoints.files import Saved
from trainer.checkpoints.retention import Policy
from trainer.cli import main
from trainer.launch import Order, launch


def found(*values, every=10):
    """Checkpoints at steps 10, 20, … with these values."""
    return [Saved(every * number, f"{every * number}.pt", value) for number, value in enumerate(values, 1)]


KEPT = {
    "nothing there": ([], Policy(), []),
    "one": (found(1.0), Policy(1, 0), [10]),
    "fewer than may stay": (found(1.0, 2.0), Policy(5, 5), [10, 20]),
    "the newest though it is the worst": (found(1.0, 2.0, 9.0), Policy(1, 1), [10, 30]),
    "the newest though none may stay": (found(1.0, 2.0), Policy(0, 0), [20]),
    "the last two": (found(1.0, 2.0, 3.0, 4.0), Policy(2, 0), [30, 40]),
    "the best two": (found(4.0, 1.0, 2.0, 3.0), Policy(1, 2), [20, 30, 40]),
    "the best is the highest": (found(4.0, 9.0, 2.0, 3.0), Policy(1, 1, 0, "max"), [20, 40]),
    "the earlier one of equals": (found(1.0, 1.0, 2.0), Policy(1, 1), [10, 30]),
    "zero is a value": (found(0.0, 1.0, 2.0), Policy(1, 1), [10, 30]),
    "zero is a low value": (found(0.0, 1.0, 0.5), Policy(1, 1, 0, "max"), [20, 30]),
    "no value": (found(None, 3.0, None), Policy(1, 1), [20, 30]),
    "no value anywhere": (found(None, None, None), Policy(1, 1), [30]),
    "NaN and infinity are no values": (found(math.nan, -math.inf, 3.0, None), Policy(1, 1), [30, 40]),
    "each twentieth step": (found(None, None, None, None, None), Policy(1, 0, 20), [20, 40, 50]),
    "by number, not by name": (found(None, None, every=99_999_999), Policy(1, 0), [199_999_998]),
    "in any order": (found(3.0, 1.0, 2.0)[::-1], Policy(1, 1), [20, 30]),
}


@pytest.mark.parametrize(("there", "policy", "kept"), KEPT.values(), ids=KEPT.keys())
def test_what_stays(there, policy, kept):
    gone = retention.superfluous(there, policy)
    assert sorted({one.step for one in there} - {one.step for one in gone}) == kept
    assert [one.step for one in gone] == sorted(one.step for one in gone)


def save(folder, step, value=None):
    return files.save_step(folder, {"step": step}, value=value, note={}, best=False)


def steps(folder):
    return [one.step for one in files.saved(folder)]


def test_the_order_on_disk_is_numeric_beyond_eight_digits(tmp_path):
    for step in (99_999_999, 100_000_000, 7):
        save(tmp_path, step)
    assert steps(tmp_path) == [7, 99_999_999, 100_000_000]


def test_a_removed_one_leaves_nothing_behind(tmp_path):
    for step in (4, 8):
        save(tmp_path, step)
    assert [one.step for one in retention.prune(tmp_path, Policy(1, 0))] == [4]
    assert not list((tmp_path / "checkpoints").glob("step-00000004*"))


def test_those_of_an_attempt_that_is_over_do_not_push_out_the_one_just_saved(tmp_path):
    for step in (4, 8, 12):
        save(tmp_path, step, 1.0 / step)
    save(tmp_path, 6, 0.5)  # 8 and 12 were damaged, and the run went on from 4
    retention.prune(tmp_path, Policy(1, 1), newest=6)
    assert steps(tmp_path) == [4, 6]


# ------------------------------------------------------------------------------------------------------ trainer prune


@pytest.fixture
def folder(tmp_path, small_toml):
    settings = ["checkpoints.keep_last=9", "train.checkpoint_every=2", "train.eval_every=0"]
    assert launch(Order(small_toml, tmp_path, settings=settings)) == 0
    return tmp_path / "exp-001"


def everything(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "checkpoints").iterdir()}


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_a_dry_run_touches_nothing_and_names_what_would_go(folder, capsys):
    before = everything(folder)
    capsys.readouterr()
    assert main(["prune", str(folder), "--keep-last", "2", "--dry-run"]) == 0
    assert everything(folder) == before
    said = capsys.readouterr().out
    assert said.count("would be removed, ") == 4
    assert "2 of 6 checkpoints stay" in said


def test_prune_removes_exactly_that(folder, capsys):
    assert main(["prune", str(folder), "--keep-every", "4"]) == 0
    assert steps(folder) == [4, 8, 12]
    assert "3 of 6 checkpoints stay" in capsys.readouterr().out


def test_the_best_by_its_note_stays_and_one_without_a_note_is_not_the_best(tmp_path, small_toml):
    settings = ["checkpoints.keep_last=9", "train.eval_every=3", "train.checkpoint_every=0"]
    launch(Order(small_toml, tmp_path, settings=settings))
    folder = tmp_path / "exp-001"
    best = min(files.saved(folder), key=lambda one: one.value)
    assert best.step == 12  # a small model that has just begun gets better all the time
    best.path.with_suffix(".json").unlink()
    (folder / "checkpoints/step-00000003.json").write_text("{")
    assert main(["prune", str(folder)]) == 0
    assert steps(folder) == [9, 12]


def test_the_newest_sound_one_stays(folder, capsys):
    for step in (10, 12):
        flip(files.step_file(folder, step))
    assert main(["prune", str(folder), "--dry-run"]) == 0
    assert "step-00000008.pt: stays, since every newer one is damaged" in capsys.readouterr().out
    assert main(["prune", str(folder)]) == 0
    assert steps(folder) == [8, 12]
    assert files.load_newest(folder)[0]["step"] == 8


def test_a_file_that_cannot_be_removed_is_named(folder, monkeypatch, capsys):
    def refuse(self, **_named):
        raise PermissionError(1, "Operation not permitted", str(self))

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    assert main(["prune", str(folder)]) == 2
    assert "step-00000002.pt: cannot be removed (Operation not permitted)" in capsys.readouterr().err


def test_names_outlive_it(folder):
    assert main(["prune", str(folder)]) == 0
    assert os.path.samefile(folder / "checkpoints/last.pt", files.step_file(folder, 12))
