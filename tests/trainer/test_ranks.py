"""What the processes of a distributed run write, each of them on its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import contract
from contract import State
from trainer import ranks
from trainer.log import RunLog

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def launched(monkeypatch):
    for name in ranks._LAUNCH:
        monkeypatch.delenv(name, raising=False)

    def set_environment(**changes):
        for name, value in (LAUNCHER | changes).items():
            monkeypatch.setenv(name, value)

    return set_environment


def record(folder, rank=1):
    return json.loads((folder / contract.rank_file(rank)).read_text())


def written(log):
    log._beat._write()
    return record(log.folder)


def test_a_rank_writes_its_heartbeat_and_nothing_else(tmp_path, launched):
    launched()
    with RunLog(tmp_path / "run", total_steps=3) as log:
        assert written(log)["phase"] == "start"
        log.step(7, loss=1.0, lr=0.1, epoch=0)
        log.note("nothing")
        assert log.should_stop(7) is None
        found = written(log)
    assert found["process"] == vars(contract.this_process())
    assert {name: found[name] for name in ("rank", "world_size", "launch", "state", "step", "phase", "error")} == {
        "rank": 1, "world_size": 4, "launch": "localhost/29500", "state": "running", "step": 7, "phase": "train",
        "error": None,
    }  # fmt: skip
    assert found["started_at"] <= found["progress_at"] <= found["updated_at"]
    assert record(log.folder)["state"] == "completed"
    assert {path.name for path in log.folder.iterdir()} == {"ranks"}
    assert {path.name for path in (log.folder / "ranks").iterdir()} <= {"rank-00001.json", "rank-00001.stacks.txt"}


def test_a_rank_says_what_it_does(tmp_path, launched):
    launched()
    with RunLog(tmp_path) as log:
        with log.phase("data"):
            assert written(log)["phase"] == "data"
        log.step(1)
        log.evaluation(2, val_loss=1.0)
        log.epoch_end(0, step=3)
        log.checkpoint_saved("a.pt", step=4)
        assert (written(log)["phase"], written(log)["step"]) == ("train", 4)
        log.fold_end(0, 5, step=5, val_loss=1.0)
        assert (written(log)["phase"], written(log)["step"]) == ("fit", 5)
        log.step(6)
        assert written(log)["phase"] == "train"


def test_a_rank_that_fails_says_why(tmp_path, launched):
    launched()
    with pytest.raises(ValueError, match="bad"), RunLog(tmp_path):
        raise ValueError("bad batch")
    assert record(tmp_path)["state"] == "failed"
    assert "ValueError: bad batch" in record(tmp_path)["error"]


def test_the_last_word_is_said_once(tmp_path, launched):
    launched()
    log = RunLog(tmp_path)
    log.close(State.FAILED, "why")
    log.close()
    assert (record(tmp_path)["state"], record(tmp_path)["error"]) == ("failed", "why")


NO_RANK = {
    "no world": {"WORLD_SIZE": ""},
    "a world of one": {"WORLD_SIZE": "1"},
    "beyond the world": {"RANK": "4"},
    "no number": {"RANK": "one"},
    "negative": {"RANK": "-1"},
}


@pytest.mark.parametrize("environment", NO_RANK.values(), ids=NO_RANK.keys())
def test_what_is_no_rank_of_a_distributed_run_writes_nothing(tmp_path, launched, environment):
    launched(**environment)
    with RunLog(tmp_path / "run") as log:
        log.step(1)
        with log.phase("data"):
            pass
    assert not (tmp_path / "run").exists()


def test_the_status_of_rank_0_tells_of_the_world(tmp_path, launched, read_status):
    launched(RANK="0")
    with RunLog(tmp_path):
        pass
    assert (read_status(tmp_path)["world_size"], read_status(tmp_path)["launch"]) == (4, "localhost/29500")
    launched(RANK="0", WORLD_SIZE="1")
    with RunLog(tmp_path):
        pass
    assert not {"world_size", "launch"} & read_status(tmp_path).keys()
    assert not (tmp_path / "ranks").exists()


def test_a_folder_that_cannot_be_written_costs_the_heartbeat_only(tmp_path, launched):
    launched()
    (tmp_path / "run").write_text("a file where a folder should be")
    with RunLog(tmp_path / "run") as log:
        log.step(1)
    assert (tmp_path / "run").is_file()


def run(folder, code, **environment):
    script = f"from trainer.log import RunLog\nlog = RunLog({str(folder)!r})\nlog.step(5)\n{code}"
    env = {**os.environ, **LAUNCHER, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=False)


def test_a_program_that_never_closes_its_log_says_goodbye_all_the_same(tmp_path):
    assert run(tmp_path, "").returncode == 0
    assert (record(tmp_path)["state"], record(tmp_path)["step"]) == ("completed", 5)


def test_also_what_it_died_of(tmp_path):
    assert run(tmp_path, "raise ValueError('bad batch')").returncode == 1
    assert (record(tmp_path)["state"], record(tmp_path)["error"]) == ("failed", "ValueError: bad batch")


def test_a_forked_child_says_no_goodbye_for_its_parent(tmp_path):
    code = "import os, sys\npid = os.fork()\nif not pid:\n    sys.exit(0)\nos.waitpid(pid, 0)\nos._exit(0)"
    assert run(tmp_path, code).returncode == 0
    assert record(tmp_path)["state"] == "running"


def test_a_rank_writes_its_stacks_when_asked(tmp_path, launched):
    launched()
    with RunLog(tmp_path):
        signum = record(tmp_path)["stack_signal"]
        assert signum in (signal.SIGUSR1, signal.SIGUSR2)
        os.kill(os.getpid(), signum)
        assert "Current thread" in (tmp_path / contract.rank_stacks(1)).read_text()
    assert not (tmp_path / contract.STACKS).exists()


def test_the_heartbeat_goes_on_while_the_loop_stands_still(tmp_path, launched, monkeypatch):
    monkeypatch.setattr(ranks, "_BEAT_SECONDS", 0.01)
    launched()
    with RunLog(tmp_path):
        first, end = record(tmp_path), time.monotonic() + 5
        while record(tmp_path)["updated_at"] == first["updated_at"] and time.monotonic() < end:
            pass
        assert record(tmp_path)["updated_at"] > first["updated_at"]
        assert record(tmp_path)["progress_at"] == first["progress_at"]
