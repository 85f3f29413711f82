"""Other people's functions: when they are called, what becomes of what they return, and that none stops a training."""

import json
import sys

import pytest
import torch

from checker.cli import main as check
from checker.report import story
from trainer import callbacks, spec
from trainer.callbacks import Callbacks, Moment
from trainer.launch import Order, launch
from trainer.spec.train import Callbacks as Options

OWN = """
import shutil
import sys

CALLS = []


def seen(moment):
    CALLS.append((moment.event, moment.step, moment.epoch, moment.checkpoint and moment.checkpoint.name))


def measures(moment):
    return {"own": moment.step / 2, "tensor": moment.model.token.weight.sum().detach()}


def names_the_step(moment):
    return {"step": 3.0}


def measures_anew(moment):
    return {"val_loss": -1.0, "train_loss_epoch": -1.0}


def switches_off(moment):
    moment.model.eval()


def gives_a_list(moment):
    return [1, 2]


def gives_words(moment):
    return {"own": "much"}


def raises(moment):
    raise ValueError("no good")


def leaves(moment):
    sys.exit(7)


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError


def unspeakable(moment):
    raise Unspeakable


def takes_the_place_of_checkpoints(moment):
    shutil.rmtree(moment.folder / "checkpoints", ignore_errors=True)
    (moment.folder / "checkpoints").write_text("mine")


def gives_it_back(moment):
    if (moment.folder / "checkpoints").is_file():
        (moment.folder / "checkpoints").unlink()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_calls.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("own_calls")
    sys.modules.pop("own_calls", None)


def run_with(small_toml, root, *settings):
    assert launch(Order(small_toml, root, settings=list(settings))) == 0
    return root / "exp-001"


def calling(event, *names):
    return f"callbacks.{event}={[f'own_calls:{name}' for name in names]}"


EVENTS = ["train_start", "step_end", "evaluation", "epoch_end", "checkpoint_saved", "train_end"]


def test_each_event_comes_at_its_moment(tmp_path, small_toml, own):
    run_with(
        small_toml,
        tmp_path,
        *(calling(event, "seen") for event in EVENTS),
        "train.steps=30",  # an epoch has 28
        "train.eval_every=10",
        "train.checkpoint_every=12",
        "train.log_every=7",
    )
    by_event = {event: [call[1:] for call in own.CALLS if call[0] == event] for event in EVENTS}
    assert own.CALLS[0] == ("train_start", 0, 0, None)
    assert own.CALLS[-1][:2] == ("train_end", 30)
    assert [step for step, _, _ in by_event["step_end"]] == list(range(1, 31))
    assert [step for step, _, _ in by_event["evaluation"]] == [10, 20, 30]
    assert [(step, epoch) for step, epoch, _ in by_event["epoch_end"]] == [(28, 0)]
    # Told when it is written, and of the step that it was taken at.
    saved = [(step, name) for step, _, name in by_event["checkpoint_saved"]]
    assert saved == [(step, f"step-{step:08d}.pt") for step in (10, 12, 20, 24, 30)]


@pytest.mark.parametrize(
    ("event", "settings"),
    [("evaluation", []), ("epoch_end", ["train.steps=28"])],
    ids=["evaluation", "epoch_end"],
)
@pytest.mark.usefixtures("own")
def test_what_is_returned_is_logged(tmp_path, small_toml, read_rows, event, settings):
    folder = run_with(small_toml, tmp_path, calling(event, "measures"), *settings)
    rows = read_rows(folder, event)
    assert [row["metrics"]["own"] for row in rows] == [row["step"] / 2 for row in rows]
    assert isinstance(rows[0]["metrics"]["tensor"], float)


@pytest.mark.usefixtures("own")
def test_a_metric_of_ones_own_may_be_the_one_that_counts(tmp_path, small_toml):
    own_metric = ["metric.name=val_own", "metric.direction=max", "callbacks.evaluation=['own_calls:best']"]
    sys.modules["own_calls"].best = lambda moment: {"val_own": -moment.step}
    folder = run_with(small_toml, tmp_path, *own_metric)
    assert json.loads((folder / "result.json").read_text())["primary_metric"]["value"] == -5.0


@pytest.mark.usefixtures("own")
def test_the_model_stays_in_the_mode_it_was_in(tmp_path, small_toml, read_rows):
    """Dropout goes on: another loss than without would tell."""
    settings = ["model.dropout=0.5", "train.eval_every=2"]
    left, plain = (
        run_with(small_toml, tmp_path / name, *settings, *calls)
        for name, calls in {"left": [calling("evaluation", "switches_off")], "plain": []}.items()
    )
    assert [row["metrics"] for row in read_rows(left, "step")] == [row["metrics"] for row in read_rows(plain, "step")]


FAULTY = {
    "raises": "ValueError: no good",
    "leaves": "SystemExit: 7",
    "unspeakable": "Unspeakable: (it cannot be shown)",
    "gives_a_list": "TypeError: returned list; give None, or a mapping",
    "gives_words": "TypeError: returned own = 'much', which is no number",
    "names_the_step": "TypeError: returned 'step', which each row has of its own",
    "measures_anew": "TypeError: returned 'val_loss', which was measured here",
}


@pytest.mark.parametrize(("name", "error"), FAULTY.items(), ids=FAULTY.keys())
@pytest.mark.usefixtures("own")
def test_nothing_that_a_function_does_stops_a_training(tmp_path, small_toml, read_rows, read_status, name, error):
    folder = run_with(
        small_toml, tmp_path, *(calling(event, name) for event in ("evaluation", "epoch_end")), "train.steps=30"
    )
    status = read_status(folder)
    assert (status["state"], status["step"]) == ("completed", 30)
    first = status["callback_errors"][0]
    assert (first["callback"], first["stage"]) == (f"own_calls:{name}", "evaluation")
    assert first["error"].startswith(error)
    told = [row["text"] for row in read_rows(folder, "note") if "failed at" in row["text"]]
    assert told[0].startswith(f"callback own_calls:{name} failed at evaluation: {error}")


def test_the_others_are_called_all_the_same(tmp_path, small_toml, read_rows, own):
    folder = run_with(small_toml, tmp_path, calling("evaluation", "raises", "seen", "measures"))
    assert len(own.CALLS) == 3
    assert [row["metrics"]["own"] for row in read_rows(folder, "evaluation")] == [2.5, 5.0, 6.0]


def test_nor_does_one_that_makes_saving_impossible(tmp_path, small_toml, read_rows, own):
    own.near_the_end = lambda moment: own.gives_it_back(moment) if moment.step == 11 else None
    spoils = calling("train_start", "takes_the_place_of_checkpoints")
    folder = run_with(small_toml, tmp_path, spoils, calling("step_end", "near_the_end"))
    assert any("no checkpoint was written" in row["text"] for row in read_rows(folder, "note"))
    assert (folder / "checkpoints/last.pt").exists()


@pytest.mark.usefixtures("own")
def test_it_stands_in_the_diagnosis(tmp_path, small_toml):
    folder = run_with(small_toml, tmp_path, calling("evaluation", "raises"))
    assert check(["once", str(tmp_path)]) == 0
    told = "callback own_calls:raises failed 3 times at evaluation: ValueError: no good"
    assert told in (folder / "diagnosis.md").read_text()


TOLD = {
    "nothing": ({}, []),
    "no list": ({"callback_errors": "x"}, []),
    "no records in it": ({"callback_errors": [1, None]}, []),
    "once": (
        {"callback_errors": [{"callback": "a:b", "stage": "step_end", "error": "E: x"}]},
        ["callback a:b failed at step_end: E: x"],
    ),
    "the last of several": (
        {"callback_errors": [{"callback": "a:b", "stage": "s", "error": error} for error in ("E: 1", "E: 2")]},
        ["callback a:b failed 2 times at s: E: 2"],
    ),
    "two functions": (
        {"callback_errors": [{"callback": name, "stage": "s", "error": "E"} for name in ("a:b", "c:d")]},
        ["callback a:b failed at s: E", "callback c:d failed at s: E"],
    ),
}


@pytest.mark.parametrize(("status", "lines"), TOLD.values(), ids=TOLD.keys())
def test_failures_in_words(status, lines):
    assert list(story.callbacks(status)) == lines


@pytest.mark.usefixtures("own")
def test_one_that_always_fails_is_told_of_twenty_times():
    told = []
    options = Options(step_end=("own_calls:raises",), evaluation=("own_calls:leaves",))
    found = Callbacks(options, lambda *failure: told.append(failure))
    for step in range(50):
        found.call(Moment("step_end", step, 0, {}, None, torch.nn.Identity()))
    found.call(Moment("evaluation", 50, 0, {}, None, torch.nn.Identity()))
    assert len(told) == callbacks._TOLD + 1
    assert told[-2][2].endswith("; it goes on being called, and no more is told of it")
    assert told[-1][:2] == ("own_calls:leaves", "evaluation")


UNKNOWN = {
    "no such module": ("nowhere_at_all:f", "nowhere_at_all"),
    "no such function": ("own_calls:nothing", "nothing"),
    "no name": ("own_calls", "package.module:name"),
}


@pytest.mark.parametrize(("name", "said"), UNKNOWN.values(), ids=UNKNOWN.keys())
@pytest.mark.usefixtures("own")
def test_an_unknown_function_is_a_fault_of_the_spec_before_anything_is_created(tmp_path, small_toml, name, said):
    with pytest.raises(spec.SpecError, match=said):
        launch(Order(small_toml, tmp_path / "e", settings=[f"callbacks.step_end=['{name}']"]))
    assert not list((tmp_path / "e").glob("exp-*"))
