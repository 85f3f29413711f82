"""The whole story with real processes: an idea, a run that is killed, its child that is promoted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


class Desk:
    """A terminal in an empty folder."""

    def __init__(self, place):
        self.place = place
        self.root = place / "experiments"

    def type(self, *words, code=0):
        """Runs a command to its end; returns what it printed."""
        how = {"cwd": self.place, "env": ENVIRONMENT, "capture_output": True, "text": True}
        done = subprocess.run(self._command(words), check=False, **how)
        assert done.returncode == code, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *words):
        return subprocess.Popen(self._command(words), cwd=self.place, env=ENVIRONMENT, stdout=subprocess.DEVNULL)

    @staticmethod
    def _command(words):
        return [sys.executable, "-m", *map(str, words)]

    def page(self, name):
        return (self.root / name).read_text()


def wait_for(path, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.05)


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_from_an_idea_to_a_promoted_child(desk):
    spec = ROOT / "experiments/zoo/lr-too-high.toml"
    short = ["--set", "train.steps=400", "--set", "tiers.must_pass=3.2", "--set", "tiers.should_pass=1.0"]
    said = desk.type("trainer", "new", "--hypothesis", "a rate of 2 saves steps", "--spec", spec, *short)
    assert said.splitlines()[0] == "exp-001 -> experiments/exp-001 (pending)"
    assert "this run can start; nothing was kept" in desk.type("trainer", "run", "exp-001", "--dry-run")
    assert desk.type("checker", "list").splitlines()[1].split()[:2] == ["exp-001", "pending"]

    watch = desk.start("checker", "watch", "experiments")
    try:
        wait_for(desk.root / "CHECKLIST.md")
        assert "exp-001 killed at step" in desk.type("trainer", "run", "exp-001", code=3)
        wait_for(desk.root / "exp-001/next.md")
        time.sleep(2)  # the last word about a run comes a moment after its end
    finally:
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(30) == 0
    assert "only a completed run can be promoted" in desk.type("checker", "promote", "exp-001", code=1)
    assert desk.type("checker", "verdict").startswith("CONTINUE")
    assert "exp-001: all 9 checks passed" in desk.type("checker", "verify", "exp-001")  # two of its steps are kept

    change = "experiments/exp-001/next.md#exp-001.1"
    assert "exp-002 completed at step 400 of 400" in desk.type("trainer", "run", "exp-001", "--spec", change)
    desk.type("checker", "once", "experiments", code=2)  # exp-001 is still what it is
    checklist = desk.page("CHECKLIST.md")
    row = next(line for line in checklist.splitlines() if line.startswith("| exp-002 "))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:3] == ["exp-002", "exp-001", "completed"]
    assert cells[5].startswith("+")
    assert cells[6:] == ["must_pass", "should_pass: val_loss is " + cells[7].split()[3] + " asked was 1"]
    assert "lower the learning rate" in cells[3]
    assert "exp-001.1:" not in checklist  # it was tried, and it helped
    assert "exp-001.2:" in checklist

    assert "has 0 evaluations" in desk.type("checker", "promote", "exp-002", code=1)
    assert "next: checker promote experiments/exp-002" in desk.type("trainer", "eval", "exp-002")
    assert "exp-002 checkpoints/best.pt is promoted." in desk.type("checker", "promote", "exp-002")
    assert desk.type("checker", "verdict", code=10).startswith("TARGET_HIT: exp-002 reached must_pass")
    for name in ("exp-001", "exp-002"):
        assert "BAD" not in desk.type("checker", "verify", name)
    tree = desk.type("checker", "lineage", "exp-002")
    assert [line.split("  ")[:2] for line in tree.splitlines() if "·" not in line] == [
        ["exp-001", "killed"], ["↓ exp-002", "completed, promoted"],
    ]  # fmt: skip
    assert "on validation: val_loss" in tree
    difference = json.loads(desk.type("checker", "diff", "exp-001", "exp-002", "--json"))
    assert "optimizer.lr" in difference["config"]
    assert "tried as exp-002: completed, promoted" in desk.type("checker", "show", "exp-001")
