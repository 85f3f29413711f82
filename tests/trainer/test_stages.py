"""Runs in several parts: their steps, their schedules, what begins anew, and that a checker finds nothing odd."""

import json

import pytest
import torch

from checker.cli import main as check
from contract import DIAGNOSIS, Kill
from trainer import data as sources
from trainer import spec, stages
from trainer.checkpoints import files
from trainer.launch import Order, launch
from trainer.run import Run
from trainer.saving import Best
from trainer.stop import Bell

PARTS = [
    {"name": "broad", "train": {"steps": 14}, "schedule": {"warmup_steps": 2}},
    {"name": "narrow", "kind": "finetune", "train": {"steps": 10}, "optimizer": {"lr": 1e-3}},
    {"name": "exam", "kind": "eval"},
]


def legs(options):
    return stages.legs(options, sources.load)


def test_without_stages_there_is_one_leg(small):
    assert [(leg.name, leg.kind, leg.first, leg.last) for leg in legs(small())] == [("", "pretrain", 0, 12)]


def test_each_leg_has_its_own_steps_and_settings(small):
    found = legs(small(stages=PARTS))
    assert [(leg.name, leg.kind, leg.first, leg.last, leg.steps) for leg in found] == [
        ("broad", "pretrain", 0, 14, 14),
        ("narrow", "finetune", 14, 24, 10),
        ("exam", "eval", 24, 24, 0),
    ]
    assert [leg.options.optimizer.lr for leg in found] == [1e-2, 1e-3, 1e-2]
    assert found[1].options.train.batch_size == 4


def test_a_leg_in_epochs(small):
    found = legs(small(stages=[{"name": "a", "train": {"epochs": 2}}, {"name": "b"}]))
    assert [(leg.first, leg.last) for leg in found] == [(0, 56), (56, 68)]


def test_the_declared_schedule_tells_of_each_stage(small):
    found = stages.declared(legs(small(stages=PARTS)))
    assert found["kind"] == "stages"
    assert [(one["name"], one["first_step"], one["last_step"], one["kind"]) for one in found["stages"]] == [
        ("broad", 1, 14, "cosine"),
        ("narrow", 15, 24, "cosine"),
    ]
    assert [(one["peak_lr"], one["warmup_steps"]) for one in found["stages"]] == [(1e-2, 2), (1e-3, 0)]


def test_one_that_trains_once_is_declared_as_any_run(small):
    assert stages.declared(legs(small(stages=[PARTS[0], PARTS[2]])))["kind"] == "cosine"


DIGITS = {"data": {"kind": "digits"}}
WRONG = {
    "nothing trains": ([{"name": "a", "kind": "eval"}], "none of them trains"),
    "nothing to finetune": ([{"name": "a", "kind": "finetune"}], "'a' is the first that trains: nothing to finetune"),
    "nothing to finetune after an exam": (
        [{"name": "a", "kind": "eval"}, {"name": "b", "kind": "finetune"}],
        "'b' is the first that trains: nothing to finetune",
    ),
    "another model": ([{"name": "a", "model": {"layers": 3}}], r"'a' sets model; a stage may set data, loading"),
    "another seed": ([{"name": "a", "seed": 4}], "'a' sets seed"),
    "an unknown key": ([{"name": "a", "train": {"stepz": 4}}], r"stage 'a'.*train\.stepz = 4: there is no such key"),
    "no kind": ([{"name": "a", "kind": "finetoon"}], "did you mean 'finetune'"),
    "no name": ([{"train": {"steps": 4}}], "name: is missing"),
    "one name twice": ([{"name": "a"}, {"name": "a"}], "'a' is the name of 2"),
    "frozen for nothing": (
        [{"name": "a"}, {"name": "b", "frozen": [{"match": "nowhere", "until_step": 3}]}],
        "'b': frozen: 'nowhere' matches no parameter",
    ),
    "a group of nothing": (
        [{"name": "a"}, {"name": "b", "optimizer": {"groups": [{"match": "nowhere"}]}}],
        r"'b': optimizer\.groups\.0\.match = 'nowhere': matches no parameter",
    ),
    "nothing to train": ([{"name": "a"}, {"name": "b", "train": {"trainable": ["nowhere"]}}], "'b': train.trainable"),
    "no scores": ([{"name": "a"}, {"name": "b", "curriculum": {}}], "'b': .*difficulty"),
    "other data": ([{"name": "a"}, {"name": "b", **DIGITS}], "'b' has data of another shape than 'a'"),
}


@pytest.mark.parametrize(("parts", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_a_stage_is_said_before_the_first_begins(small, parts, said):
    with pytest.raises(spec.SpecError, match=f"(?s){said}"):
        Run(small(stages=parts))


# --------------------------------------------------------------------------------------------------- whole runs


def toml(path, *, stages=PARTS, **tables):
    """A spec as a file: the small one with stages and tables laid over it."""
    path = path / "staged.toml"
    lines = [f"{key} = {inline(value)}" for key, value in {"stages": stages, **tables}.items()]
    path.write_text("\n".join(lines))
    return path


def inline(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


@pytest.fixture
def train_staged(tmp_path, small):
    def train(root, **over):
        options = small(stages=PARTS, **over)
        document = {**spec.config(options), "stages": over.get("stages", PARTS)}
        path = toml(tmp_path, **without_none(document))
        return launch(Order(path, root)), root / "exp-001"

    return train


def without_none(value):
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value


def rows_by_step(rows, *events):
    return {
        (row["event"], row["step"]): (row["metrics"], row.get("learning_rate"))
        for row in rows
        if row["event"] in events
    }


def test_a_staged_run_from_begin_to_end(tmp_path, train_staged, read_rows, read_status):
    code, folder = train_staged(tmp_path / "e")
    assert code == 0
    rows = read_rows(folder)
    told = [(row.get("step"), row["text"]) for row in rows if row["event"] == "regime_change"]
    assert told == [(None, "stage broad: pretrain, 14 steps"), (14, "stage narrow: finetune, 10 steps")]
    assert [row["step"] for row in rows if row["event"] == "evaluation"] == [5, 10, 14, 15, 20, 24, 24]
    rates = {row["step"]: row["learning_rate"] for row in rows if row["event"] == "step"}
    assert (rates[1], rates[2], rates[14]) == pytest.approx((5e-3, 1e-2, 1e-3))
    assert rates[15] == pytest.approx(1e-3, rel=0.05)
    assert "test_loss" in [row for row in rows if row["event"] == "evaluation"][-1]["metrics"]
    assert (read_status(folder)["state"], read_status(folder)["total_steps"]) == ("completed", 24)
    assert any("goes on from the best weights so far, of step 14" in note for note in read_status(folder)["notes"])
    saved = files.load(folder / "checkpoints/last.pt")
    assert (saved["step"], saved["leg"], len(saved["optimizer"]["state"]) > 0) == (24, 1, True)


def test_a_finetuning_begins_with_the_best_weights_and_a_fresh_optimizer(tmp_path, small):
    run = Run(small(stages=PARTS))
    best = {name: torch.full_like(value, 0.5) for name, value in run.model.state_dict().items()}
    files.save(tmp_path, "best", {"model": best, "ema": None, "step": 9})
    run.start(tmp_path, Silent(), {})
    run.saving.best, run.step = Best(1.0, 9), 14
    run.backward(run.loader.next_group(1), 1)
    run.optimizer.step()
    assert run.optimizer.state
    run.epoch_loss = [7.0, 2]
    run.enter(run.legs[1])
    assert all(torch.equal(value, best[name]) for name, value in run.model.state_dict().items())
    assert not run.optimizer.state
    assert run.epoch_loss == [0.0, 0.0]
    run.close()


def test_without_a_sound_best_one_the_weights_of_now_go_on_and_that_is_said(tmp_path, small):
    run, told = Run(small(stages=PARTS)), []
    log = Silent()
    log.note = told.append
    run.start(tmp_path, log, {})
    run.saving.best, run.step = Best(1.0, 9), 14
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.enter(run.legs[1])
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert told[0].startswith("goes on from the weights of now, not from the best: ")
    run.close()


class Silent:
    def __getattr__(self, _name):
        return lambda *_arguments, **_named: None


def test_tokens_count_on_from_stage_to_stage(tmp_path, train_staged, read_rows):
    _, folder = train_staged(tmp_path / "e", budget={"tokens": 10_000_000})
    tokens = [row["metrics"]["tokens"] for row in read_rows(folder, "step")]
    assert tokens == [step * 4 * 2 * 16 for step in range(1, 25)]


@pytest.mark.parametrize("step", [1, 13, 14, 15, 20, 23], ids=lambda step: f"after-{step}")
def test_resuming_in_each_stage_and_at_the_boundary_is_exact(tmp_path, train_staged, read_rows, monkeypatch, step):
    _, undisturbed = train_staged(tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        asked = iter(range(1000))
        patch.setattr(Bell, "ask", lambda bell: stop(bell) if next(asked) == step else None)
        code, folder = train_staged(tmp_path / "stopped")
    assert (code, files.load_newest(folder)[0]["step"]) == (3, step)
    torch.rand(7)
    assert launch(Order(folder, folder.parent, resume=True)) == 0
    events = ("step", "evaluation", "epoch_end")
    assert rows_by_step(read_rows(folder), *events) == rows_by_step(read_rows(undisturbed), *events)
    states = [files.load(where / "checkpoints/last.pt") for where in (folder, undisturbed)]
    assert [state["best_at"] for state in states] == [states[0]["best_at"]] * 2
    assert all(torch.equal(value, states[1]["model"][name]) for name, value in states[0]["model"].items())


def stop(bell):
    bell.kill = Kill(id="k", reason="test")
    return bell.kill


def test_a_checker_finds_nothing_odd_in_a_staged_run(tmp_path, small):
    """A rate a thousand times lower, mining and unfreezing: all of it is declared."""
    parts = [
        {"name": "pretrain", "train": {"steps": 160}, "schedule": {"final_lr_ratio": 0.0}},
        {"name": "tune", "kind": "finetune", "train": {"steps": 240}, "optimizer": {"lr": 1e-5}},
        {"name": "exam", "kind": "eval"},
    ]
    over = {
        "frozen": [{"match": "blocks", "until_step": 20}],
        "mining": {"keep_ratio": 0.5, "warmup_steps": 60},
        "train": {"eval_every": 20, "checkpoint_every": 0},
        "data": {"max_bytes": 100_000, "val_bytes": 2_000},
    }
    options = small(stages=parts, **over)
    path = toml(tmp_path, **{**without_none(spec.config(options)), "stages": parts})
    assert launch(Order(path, tmp_path / "e")) == 0
    assert check(["once", str(tmp_path / "e")]) == 0
    assert "**Healthy**" in (tmp_path / "e/exp-001" / DIAGNOSIS).read_text()


def test_a_stage_may_have_another_number_format(tmp_path, small_toml, read_rows):
    half = '[[stages]]\nname = "full"\ntrain = { steps = 3 }\n\n[[stages]]\nname = "half"\n'
    half += 'train = { steps = 3, precision = "fp16" }\n'
    path = tmp_path / "parts.toml"
    path.write_text(f"{small_toml.read_text()}\n{half}")
    assert launch(Order(path, tmp_path)) == 0
    rows = read_rows(tmp_path / "exp-001", "step")
    assert ["loss_scale" in row["metrics"] for row in rows] == [False] * 3 + [True] * 3
