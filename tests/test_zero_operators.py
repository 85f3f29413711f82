"""Files as zero-operators' own callback writes them: every key on every line, bare NaN, no state, no pid, no step.

The files in `tests/zero_operators` were written after the tables of that format.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import contract
from checker import replay
from checker.cli import main
from checker.events import Row

GOLDEN = Path(__file__).parent / "zero_operators"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(GOLDEN, tmp_path / "exp-003"))


def test_no_row_is_lost():
    data = (GOLDEN / contract.METRICS).read_bytes()
    events = list(replay.lines(data))
    assert [type(event) for event in events] == [Row] * len(data.splitlines())
    ends = [event for event in events if event.event == "epoch_end"]
    assert [event.epoch for event in ends] == [0, 1, 2, 3, 4, 5]
    assert ends[2].values == {"train_loss": 0.62, "val_loss": 0.75, "val_accuracy": 0.7, "learning_rate": 0.001,
                              "gpu_memory_mb": 2048.5}  # fmt: skip
    assert [event.elapsed for event in ends] == [60.0, 120.0, 180.0, 240.0, 300.0, 360.0]
    assert events[0].total_epochs == 6


def test_the_nan_is_found(folder):
    found = replay.read(folder).document()
    assert found["verdict"] == {"kill": True, "rule": "nonfinite", "row": 7, "step": None}
    assert found["unreadable"] == 0


def test_is_training_is_understood():
    status = json.loads((GOLDEN / contract.STATUS).read_text())
    assert contract.run_state(status) is contract.State.RUNNING
    assert contract.run_state({**status, "is_training": False}) is contract.State.COMPLETED


def test_a_request_leaves_every_other_key_as_it_was(folder):
    before = json.loads((folder / contract.STATUS).read_text())
    status = contract.StatusFile(folder)
    assert contract.request_kill(status, contract.Kill(id="k1", reason="NaN"))
    after = json.loads((folder / contract.STATUS).read_text())
    assert {key: value for key, value in after.items() if key != "kill"} == before
    assert after["kill"]["reason"] == "NaN"


def test_it_is_reported(folder):
    assert main(["once", str(folder.parent)]) == 2
    text = (folder / contract.DIAGNOSIS).read_text()
    assert text.startswith("# Diagnosis: resnet18-baseline (exp-003)")
    assert "nonfinite" in text
    assert "| exp-003 |" in (folder.parent / contract.CHECKLIST).read_text()
