"""The logger as a torchtune recipe calls it, by name: the recipe is a few lines of our own, so nothing is needed."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from beside import acts, asked_at, checker_of, losses, rows, status
from processes import ROOT, wait_until

from trainer.adapters.torchtune import CheckerLogger

CONFIG = {"epochs": 2, "optimizer": {"lr": 2e-5}, "resume_from_checkpoint": False, "device": "cpu"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder that a checker watches."""
    folder = tmp_path_factory.mktemp("watched")
    with checker_of(folder):
        yield folder


def recipe(folder, loss=lambda step: 3.0 - 0.01 * step, steps=30, pause=0.0):
    """What the recipes do: `setup`, `train`, `cleanup`; returns the step at which it ended."""
    logger = CheckerLogger(log_dir=str(folder))
    logger.log_config(CONFIG)
    for step in range(1, steps + 1):
        time.sleep(pause)
        try:
            logger.log_dict({"loss": loss(step), "lr": 2e-5, "tokens_per_second_per_gpu": 9.0}, step=step)
        except SystemExit as end:
            return step, end.code
    logger.close()
    return steps, 0


def test_a_healthy_recipe_is_told_and_left_alone(root):
    assert recipe(root / "healthy") == (30, 0)
    now = status(root / "healthy")
    assert (now["state"], now["step"], now["total_epochs"]) == ("completed", 30, 2)
    assert now["config"] == CONFIG
    assert losses(root / "healthy") == pytest.approx({step: 3.0 - 0.01 * step for step in range(1, 31)})
    assert {row["learning_rate"] for row in rows(root / "healthy")} == {2e-5}
    assert not acts(root / "healthy")


def test_a_nan_ends_the_recipe_with_the_exit_code_of_a_stop(root):
    folder = root / "nan"
    step, code = recipe(folder, lambda step: math.nan if step > 24 else 3.0 - 0.01 * step, 2000, 0.005)
    assert code == 3
    assert step < 1000
    now = status(folder)
    assert (now["state"], now["kill"]["rule"], now["ack"]["step"]) == ("killed", "nonfinite", step)
    assert any("without a checkpoint" in note for note in now["notes"])


def test_numbers_may_come_one_by_one_and_without_a_configuration(tmp_path):
    logger = CheckerLogger(tmp_path, total_steps=2)
    logger.log("loss", 1.0, step=1)
    logger.log("lr", 0.1, step=1)
    logger.close()
    logger.close()
    assert [row.get("metrics", {}).get("loss") for row in rows(tmp_path)] == [1.0, None]
    assert (status(tmp_path)["state"], status(tmp_path)["total_steps"]) == ("completed", 2)


# -------------------------------------------------------------------------------------------- a loop of one's own


def loop(folder):
    command = [sys.executable, "experiments/plain_loop.py", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, timeout=100, check=False).returncode


def test_the_plain_loop_stops_when_it_is_asked_and_goes_on(root):
    pytest.importorskip("torch")
    folder = root / "plain"
    folder.mkdir()
    with asked_at(folder, 50):
        assert loop(folder) == 3
    stopped = status(folder)
    assert stopped["state"] == "killed"
    assert Path(folder, stopped["checkpoints"][-1]["path"]).exists()
    assert loop(folder) == 0
    assert status(folder)["state"] == "completed"
    assert [row["step"] for row in rows(folder)] == list(range(1, 1001))
    wait_until((folder / "diagnosis.md").exists)
    findings = [json.loads(line) for line in (folder / "findings.jsonl").read_text().splitlines()]
    assert not [line for line in findings if line.get("kind") == "finding"]
