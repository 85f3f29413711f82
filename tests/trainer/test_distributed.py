"""Several processes, as torchrun starts them: really started, and their pure parts without any."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from contract import Kill, rank_file
from trainer import distributed
from trainer.distributed import ALONE, Alone, torchrun
from trainer.errors import SpecError
from trainer.launch import Order, launch
from trainer.pace import Pace
from trainer.prepare import begun

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]

ACTS = """
import json
import os
import signal

from contract import Kill, StatusFile, request_kill


def stop(moment):
    if moment.step == 7:
        request_kill(StatusFile(moment.folder), Kill(id="k", reason="enough"))


def murder(moment):
    if moment.step == 7:
        rank = json.loads((moment.folder / {file!r}).read_text())
        os.kill(rank["process"]["pid"], signal.SIGKILL)
"""


@pytest.fixture
def acts(tmp_path, monkeypatch):
    """A module of callbacks that do to a run what a test wants done at its seventh step."""
    (tmp_path / "acts.py").write_text(ACTS.format(file=rank_file(1)))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("acts", None)


def several(ranks, tmp_path, *arguments):
    """The real program under torchrun, until it has ended."""
    return subprocess.run(
        [*TORCHRUN, f"--nproc_per_node={ranks}", "-m", "trainer", "run", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def numbers(rows):
    """The losses and norms of every step and evaluation, the last row of each."""
    return {
        (row["event"], row["step"], name): value
        for row in rows
        if row["event"] in ("step", "evaluation")
        for name, value in row["metrics"].items()
    }


SETTINGS = ["device=cpu", "train.steps=24", "train.eval_every=8", "model.dropout=0.0"]


def typed(*settings):
    return [item for setting in settings for item in ("--set", setting)]


@pytest.mark.usefixtures("acts")
@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_ranks_are_one_run_stop_together_and_go_on_as_one_or_three(
    tmp_path, small_toml, read_rows, read_status, strategy
):
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert launch(Order(small_toml, alone, settings=SETTINGS)) == 0
    stops = ["callbacks.step_end=['acts:stop']", f"distributed.strategy={strategy}"]
    ended = several(2, tmp_path, small_toml, "--experiments", together, *typed(*SETTINGS, *stops))
    folder = together / "exp-001"
    status = read_status(folder)
    assert (status["state"], status["error"]) == ("killed", None), ended.stderr
    stopped = status["step"]
    other = json.loads((folder / rank_file(1)).read_text())
    assert (other["step"], other["state"]) == (stopped, "completed")
    assert torch.load(folder / "checkpoints/last.pt", weights_only=True)["step"] == stopped
    assert len([row for row in read_rows(folder, "checkpoint_saved") if row["step"] == stopped]) == 1
    three = Path(shutil.copytree(together, tmp_path / "three")) / "exp-001"
    assert launch(Order(folder, together, resume=True)) == 0
    ended = several(3, tmp_path, three, "--resume")
    assert ended.returncode == 0, ended.stderr
    expected = numbers(read_rows(alone / "exp-001"))
    for found in (numbers(read_rows(folder)), numbers(read_rows(three))):
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.usefixtures("acts")
def test_a_rank_that_is_killed_ends_the_run_and_is_named(tmp_path, small_toml, read_status):
    settings = typed(*SETTINGS, "train.steps=100000", "callbacks.step_end=['acts:murder']")
    ended = several(2, tmp_path, small_toml, "--experiments", tmp_path / "e", *settings)
    assert ended.returncode != 0
    assert read_status(tmp_path / "e/exp-001")["state"] == "failed"
    command = [sys.executable, "-m", "checker", "once", str(tmp_path / "e")]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert "rank 1" in (tmp_path / "e/exp-001/diagnosis.md").read_text()


@pytest.mark.slow
def test_a_fault_of_the_spec_is_said_once(tmp_path, small_toml):
    settings = typed("distributed.strategy=fsdp", "optimizer.kind=muon")
    ended = several(2, tmp_path, small_toml, "--experiments", tmp_path / "e", *settings)
    assert ended.returncode != 0
    assert ended.stderr.count("cannot be combined with muon") == 1
    assert not (tmp_path / "e").exists()


# ------------------------------------------------------------------------------------------------ without a process


def test_one_process_joins_nobody(small, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.joined(small()) as ranks:
        assert ranks is ALONE


PACES = {
    "the second look is at the next step": ([(0, 0.0)], 1),
    "quick steps: at most twice as far": ([(0, 0.0), (1, 0.001)], 3),
    "and twice as far again": ([(0, 0.0), (1, 0.001), (3, 0.003)], 7),
    "half a second": ([(0, 0.0), (100, 10.0)], 105),
    "slow steps: each of them": ([(0, 0.0), (1, 60.0)], 2),
    "no time at all": ([(0, 0.0), (4, 0.0)], 12),
    "the same step once more": ([(5, 0.0), (5, 9.0)], 6),
}


@pytest.mark.parametrize(("looks", "following"), PACES.values(), ids=PACES.keys())
def test_the_pace_of_looking_for_a_request(monkeypatch, looks, following):
    pace, clock = Pace(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for step, clock[0] in looks:
        found = pace.next(step)
    assert found == following


def test_all_ranks_look_at_the_step_that_was_agreed_upon():
    pace = Pace()
    assert pace.due(0)
    pace.agree(5)
    assert [pace.due(step) for step in (4, 5, 6)] == [False, True, True]


def test_alone_asks_at_each_step():
    kill = Kill(id="k", reason="test")
    assert [ALONE.agreed(lambda step: kill if step == 2 else None, step) for step in (1, 2)] == [None, kill]


REFUSED = {
    "averaged weights": ({"ema": {}}, "cannot be combined with ema"),
    "muon": ({"optimizer": {"kind": "muon"}}, "cannot be combined with muon"),
}


@pytest.mark.parametrize(("over", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_sharded_is_refused(small, over, said):
    with pytest.raises(torchrun.SpecError, match=said):
        torchrun._check(small(distributed={"strategy": "fsdp"}, **over))


class Two(Alone):
    """The first of two processes, which need not talk as long as nothing is trained."""

    world = 2


CNN = {"model": {"kind": "cnn", "channels": [2]}, "data": {"kind": "digits"}}
REMARKS = {
    "nothing to say": ({}, Two(), []),
    "batch norm alone": (CNN, ALONE, []),
    "batch norm": (CNN, Two(), ["batch norm takes its statistics from each rank's part"]),
    "mining": ({"mining": {}}, Two(), ["the hardest samples are chosen from each rank's part"]),
}


@pytest.mark.parametrize(("over", "ranks", "said"), REMARKS.values(), ids=REMARKS.keys())
def test_what_depends_on_the_number_of_ranks_is_said(tmp_path, small, over, ranks, said):
    _, told = begun(small(**over), tmp_path, ranks)
    assert len(told) == len(said)
    assert all(one.startswith(other) for one, other in zip(told, said, strict=True))


def test_all_ranks_examine_the_statistics_of_the_first(monkeypatch):
    """Each has its own, of its part of the last batch; what is saved is the first one's."""
    sent = []
    monkeypatch.setattr(torchrun.dist, "broadcast", lambda buffer, src: sent.append((buffer, src)))
    model = torch.nn.BatchNorm1d(2)
    torchrun.Torchrun.alike(None, model)
    assert [buffer.data_ptr() for buffer, _ in sent] == [buffer.data_ptr() for buffer in model.buffers()]
    assert {src for _, src in sent} == {0}


def test_processes_that_no_launcher_has_introduced_are_told_how_to_start(small, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    meeting = distributed.joined(small())
    with pytest.raises(SpecError, match="the 2 processes of this launch do not meet; start them with torchrun"):
        meeting.__enter__()


def test_more_processes_than_gpus_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SpecError, match="process 2 here has no GPU: torch sees 2; start 2 at most"):
        torchrun._take_gpu(2)
