"""What all adapters do alike, without any framework."""

import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from contract import EXPERIMENT, Kill, Phase, StatusFile, rank_file, request_kill
from trainer.adapters import tensors
from trainer.adapters.leaving import Leaving, _outermost
from trainer.adapters.session import Session, described, numbers, spared

ROOT = Path(__file__).parents[2]


@pytest.fixture
def session(tmp_path):
    made = Session(tmp_path, {}, "Adapter")
    yield made
    made.end()


def wait_until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


# ----------------------------------------------------------------------------------------------------------- session


def test_adapters_load_no_framework():
    code = (
        "import sys, trainer.adapters, trainer.adapters.session, trainer.adapters.torchtune\n"
        "print(sorted({'torch', 'numpy', 'transformers', 'lightning', 'keras'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


def test_one_training_after_the_other_in_one_folder(session, read_rows, read_status):
    for resume in (False, True):
        log = session.begin(resume=resume, total_steps=3)
        log.step(1, loss=1.0)
        session.end()
        assert session.log is None
        assert read_status(session.folder)["state"] == "completed"
    assert len({row["run_id"] for row in read_rows(session.folder)}) == 2


def test_what_the_user_says_outranks_what_the_framework_says(tmp_path):
    session = Session(tmp_path, {"total_steps": 5, "hypothesis": "h"}, "Adapter")
    log = session.begin(resume=False, total_steps=9, total_epochs=2)
    assert (log.experiment.total_steps, log.experiment.total_epochs, log.experiment.hypothesis) == (5, 2, "h")
    session.end()


def test_a_configuration_that_is_written_down_already_stays(tmp_path):
    (tmp_path / EXPERIMENT).write_text(json.dumps({"id": "exp-1", "created_at": "", "config": {"lr": 1}}))
    session = Session(tmp_path, {}, "Adapter")
    assert session.begin(resume=False, config={"lr": 2}).experiment.config == {"lr": 1}
    session.end()


def test_a_mistyped_argument_is_named_at_once(tmp_path):
    with pytest.raises(TypeError, match="Adapter has no argument 'budgt'; did you mean 'budget'"):
        Session(tmp_path, {"budgt": {}}, "Adapter")


def test_a_folder_that_cannot_be_written_ends_nothing_later(tmp_path):
    (tmp_path / "file").write_text("")
    session = Session(tmp_path / "file/run", {}, "Adapter")
    with pytest.raises(OSError, match="file"):
        session.begin(resume=False)


TURNS = {
    "an evaluation": ([Phase.EVALUATE, Phase.TRAIN], ["train", "evaluate", "train"]),
    "one thing after the other": (
        [Phase.EVALUATE, Phase.CHECKPOINT, Phase.TRAIN],
        ["train", "evaluate", "train", "checkpoint", "train"],
    ),
    "nothing new": ([Phase.TRAIN, Phase.TRAIN], ["train"]),
    "to the end": ([Phase.EVALUATE], ["train", "evaluate", "train"]),
}


@pytest.mark.parametrize(("turns", "told"), TURNS.values(), ids=TURNS)
def test_turns_are_phases(session, read_rows, turns, told):
    session.begin(resume=False).step(1)
    for phase in turns:
        session.turn(phase)
    session.end()
    assert [row["phase"] for row in read_rows(session.folder, "phase")] == told


def test_a_request_is_answered_once_and_remembered(session, read_status):
    session.begin(resume=False)
    assert session.asked(1) is None
    request_kill(StatusFile(session.folder), Kill(id="k", reason="enough"))
    assert session.asked(2).id == "k"
    assert session.asked(3) is session.kill
    session.end()
    assert (read_status(session.folder)["state"], session.kill.id) == ("killed", "k")


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, "completed"), (ValueError("bad"), "failed"), (KeyboardInterrupt(), "killed"), (SystemExit(0), "completed")],
    ids=["none", "error", "interrupt", "exit"],
)
def test_how_it_ended(session, read_status, error, state):
    session.begin(resume=False)
    session.end(error)
    assert read_status(session.folder)["state"] == state


def test_who_waits_for_the_end_hears_of_it_once(tmp_path):
    ends, session = [], Session(tmp_path, {}, "Adapter")
    session.begin(resume=False, after=lambda: ends.append(1))
    session.end()
    session.end()
    assert ends == [1]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_launcher_that_names_no_rank_is_spoken_for(tmp_path, monkeypatch, rank):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    session = Session(tmp_path, {}, "Adapter")
    session.begin(resume=False, rank=rank, world=2)
    session.end()
    assert "RANK" not in os.environ
    assert (tmp_path / "metrics.jsonl").exists() == (rank == 0)
    assert (tmp_path / rank_file(1)).exists() == (rank == 1)


def test_a_rank_that_was_not_asked_itself_says_that_it_was_killed(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    session = Session(tmp_path, {}, "Adapter")
    session.begin(resume=False, rank=1, world=2)
    session.kill = Kill(id="k", reason="enough")
    session.end()
    assert json.loads((tmp_path / rank_file(1)).read_text())["state"] == "killed"


# ------------------------------------------------------------------------------------------------------------ errors


class Adapter:
    def __init__(self, session):
        self._session = session

    @spared
    def hook(self, value):
        return 1 / value


def test_errors_of_a_hook_are_told_twenty_times_and_end_nothing(session, read_rows):
    adapter = Adapter(session)
    assert adapter.hook(0) is None  # nothing is under way: it is not even called
    session.begin(resume=False)
    assert adapter.hook(2) == 0.5
    assert [adapter.hook(0) for _ in range(30)] == [None] * 30
    session.end()
    notes = [row["text"] for row in read_rows(session.folder, "note")]
    assert len(notes) == 20
    assert notes[0] == "callback Adapter failed at hook: ZeroDivisionError: division by zero"
    assert notes[-1].endswith("no more is told of it")


def test_settings_that_cannot_be_told_are_none():
    assert described(lambda: {"lr": 1}) == {"lr": 1}
    assert described(lambda: {"lr": 1 / 0}) == {}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (1, 1.0),
        (0.5, 0.5),
        (math.inf, math.inf),
        (torch.tensor(2.0), 2.0),
        (torch.ones(3), None),
        ("3", None),
        (None, None),
        (True, None),
        ([1.0], None),
    ],
    ids=str,
)
def test_what_is_a_number(value, found):
    assert numbers({"loss": value, "step": 1, "epoch": 0.5}) == ({} if found is None else {"loss": found})


# ---------------------------------------------------------------------------------------------- left without a word


FRAMEWORK = """
def fit(body):
    body()
"""


@pytest.fixture
def fit():
    """A framework's function that calls what it is given."""
    names = {"__name__": "framework.loops"}
    exec(FRAMEWORK, names)
    return names["fit"]


def test_the_outermost_function_of_a_package_is_the_one_that_trains(fit):
    found = []
    fit(lambda: fit(lambda: found.append((_outermost("framework"), _outermost("other")))))
    assert found == [(fit.__code__, None)]


def test_a_training_that_goes_on_is_left_alone(fit):
    left = []

    def body():
        leaving = Leaving(left.append, "framework")
        time.sleep(2.2)  # longer than it takes to be sure
        leaving.close()

    fit(body)
    assert left == []


def test_a_training_that_was_left_by_an_exception_is_told_within_two_seconds(fit):
    left = []

    def body():
        Leaving(left.append, "framework")
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fit(body)
    wait_until(lambda: left == [None], 4)


def test_a_training_in_another_thread_is_noticed_as_well(fit):
    left = []
    training = threading.Thread(target=fit, args=[lambda: Leaving(left.append, "framework")])
    training.start()
    training.join()
    wait_until(lambda: left == [None], 4)


@pytest.mark.parametrize(
    ("end", "state", "error"),
    [
        ("", "failed", "left before its end"),
        ("raise ValueError('bad')", "failed", "ValueError: bad"),
        ("raise KeyboardInterrupt", "killed", "KeyboardInterrupt"),
        ("import os\nif os.fork() == 0: sys.exit()\nos.wait()\nsession.end()", "completed", None),
    ],
    ids=["exit", "error", "interrupt", "a child's exit"],
)
def test_the_end_of_the_program_is_the_end_of_the_training(tmp_path, read_status, end, state, error):
    code = (
        "import sys\nfrom trainer.adapters.session import Session\n"
        f"session = Session(sys.argv[1], {{}}, 'Adapter')\nsession.begin(resume=False).step(1, loss=1.0)\n{end}"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=False, capture_output=True)
    status = read_status(tmp_path)
    assert status["state"] == state
    assert status["error"] == error if error is None else error in status["error"]


# ----------------------------------------------------------------------------------------------------------- tensors


def test_the_norm_of_all_gradients():
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    assert tensors.gradient_norm(optimizer) is None
    weights[0].grad, weights[2].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert tensors.gradient_norm(optimizer).item() == 5.0
    weights[1].grad = torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True)
    assert tensors.gradient_norm(optimizer) is None


@pytest.mark.parametrize("value", [1.0, math.nan, math.inf])
def test_a_model_is_sound_while_all_its_weights_are_numbers(value):
    model = torch.nn.Linear(2, 1)
    model.register_parameter("count", torch.nn.Parameter(torch.tensor(3), requires_grad=False))
    with torch.no_grad():
        model.bias.fill_(value)
    assert tensors.sound(model) is math.isfinite(value)


def test_alone_is_asked_at_each_step():
    asked = []
    ranks = tensors.Ranks()
    assert [ranks.agreed(asked.append, step) for step in (1, 2, 3)] == [None] * 3
    assert asked == [1, 2, 3]
