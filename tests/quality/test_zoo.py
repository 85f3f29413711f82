"""The generator of the zoo: what is put into a training comes out, and nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("numpy")

import labels
import make
import numpy as np
import origin
import torch
from entries import onset_row
from knobs import Knobs, shape_of
from labels import Fate, Traits
from loggers import LOGGERS, Look, Plan
from members import Member, members
from programs import PROGRAMS, Program
from train import _Crowd, train
from twists import FAULTS, KNOBS, ODDITIES, Story, Twist

NAN = float("nan")
STEPS = 40
SMALL = Program("regression", "diabetes", "adamw", "cosine", "every-step", 2e-3, STEPS)
LATE = 0.5
"""When faults set in here, as a share of the run."""
PLAIN = Member(Story(), 0, 1.0)
OTHER = Member(Story(), 1, 0.8)
SHOWN = Traits(falls=True, shows_lr=True, shows_val=True)
BLIND = Traits(falls=True, shows_lr=False, shows_val=False)
GAN = Traits(falls=False, shows_lr=True, shows_val=True)


@pytest.fixture(autouse=True, scope="module")
def _as_the_zoo_is_made():
    """On one thread, which is what makes sums the same every time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def faulty(*twists, twin=0, **story):
    return Member(Story("fault", twists, LATE, **story), 0, 1.0, twin=twin)


def trained(*crowd, program=SMALL):
    return train(program, crowd, 0)


# --- training


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw", "lion", "adafactor"])
def test_a_run_is_its_twin_until_the_fault_sets_in(optimizer):
    program = SMALL._replace(optimizer=optimizer)
    truth = trained(PLAIN, faulty(Twist("inputs", 50.0, LATE)), program=program)
    onset = round(LATE * STEPS)
    assert torch.equal(truth.train[:onset, 0], truth.train[:onset, 1])
    assert truth.train[onset, 0] != truth.train[onset, 1]


def test_a_twist_of_the_labels_leaves_the_twins_batches_alone():
    truth = trained(PLAIN, OTHER, faulty(Twist("labels", 1.0, LATE)))
    assert torch.equal(truth.train[: STEPS // 2, 0], truth.train[: STEPS // 2, 2])


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw", "lion", "adafactor"])
def test_a_nan_in_one_leaves_the_others_bit_for_bit(optimizer):
    program = SMALL._replace(optimizer=optimizer, clip=1.0)
    gone = trained(PLAIN, OTHER, faulty(Twist("inputs", NAN, LATE)), program=program)
    well = trained(PLAIN, OTHER, faulty(Twist("inputs", 1.0, LATE)), program=program)
    assert gone.train[STEPS // 2 :, 2].isnan().all()
    assert gone.sound[:2].all()
    for name in ("train", "grad", "val"):
        assert torch.equal(getattr(gone, name)[:, :2], getattr(well, name)[:, :2]), name


def test_the_same_names_make_the_same_runs():
    first, second = trained(PLAIN, OTHER), trained(PLAIN, OTHER)
    assert torch.equal(first.train, second.train)
    assert repr(members(SMALL)) == repr(members(SMALL))


def test_a_resumed_member_logs_steps_twice_and_goes_on_from_its_checkpoint():
    truth = trained(PLAIN, Member(Story("resumed", resumed=(0.5, 0.75)), 0, 1.0))
    steps = [look.step for look in truth.looks(1)]
    assert steps == [*range(1, 31), *range(21, STEPS + 1)]
    assert [look.step for look in truth.looks(0)] == [*range(1, STEPS + 1)]
    assert len(truth.fate(1, STEPS).train) == STEPS
    assert np.isfinite(truth.fate(1, STEPS).train).all()
    assert torch.equal(truth.train[:30, 0], truth.train[:30, 1])
    again, before = truth.looks(1)[30].train, truth.looks(1)[20].train
    assert 0.1 < again / before < 10  # other samples, the same weights


def test_a_dead_learning_rate_stands_still_and_a_lost_update_is_not_in_the_log():
    truth = trained(PLAIN, faulty(Twist("lr", 0.0, 0.0)), faulty(Twist("update", 0.0, 0.0)))
    assert (truth.lr[:, 1] == 0).all()
    assert torch.equal(truth.lr[:, 2], truth.lr[:, 0])
    assert truth.val[0, 1] == truth.val[-1, 1] == truth.val[-1, 2]
    assert truth.val[0, 0] != truth.val[-1, 0]


def test_frozen_weights_do_not_move():
    crowd = _Crowd(
        SMALL._replace(optimizer="sgd"), [PLAIN, faulty(Twist("frozen", 2.0))], torch.Generator().manual_seed(0)
    )
    before = {name: view.detach().clone() for name, view in crowd.stack.views().items()}
    crowd.step()
    for name, view in crowd.stack.views().items():
        moved = (view != before[name]).flatten(1).any(1).tolist()
        assert moved == [True, name.endswith(".b")], name


def test_half_precision_skips_what_overflows_unless_told_not_to():
    program = SMALL._replace(model="mlp", data="wine", half=True)
    scale = Twist("scale", 1e8, LATE)
    truth = trained(PLAIN, faulty(scale), faulty(scale, Twist("skip", 0.0)), program=program)
    assert truth.sound.tolist() == [True, True, False]


# --- knobs


def test_a_knob_is_turned_between_two_moments_for_one_member():
    knobs = Knobs([Story(), Story("x", (Twist("lr", 9.0, 0.25, 0.5),))], 8)
    table = [knobs.at("lr", torch.tensor([step, step])).tolist() for step in range(8)]
    assert table == [[1.0, 9.0 if 2 <= step < 4 else 1.0] for step in range(8)]
    assert "clip" not in knobs
    assert knobs.at("clip", torch.tensor([0, 7])).tolist() == [1.0, 1.0]


def test_a_twist_lasts_a_step_at_least():
    knobs = Knobs([Story("x", (Twist("inputs", NAN, 0.5, 0.501),))], 100)
    assert [step for step in range(100) if knobs.at("inputs", torch.tensor([step])).isnan()] == [50]


@pytest.mark.parametrize(("knob", "value", "middle"), [("lr", 100.0, 10.0), ("labels", 0.6, 0.3)])
def test_a_ramp_is_even_in_logarithms_for_factors_and_in_itself_for_shares(knob, value, middle):
    knobs = Knobs([Story("x", (Twist(knob, value, ramp=True),))], 101)
    places = [knobs.at(knob, torch.tensor([step])).item() for step in (0, 50, 100)]
    assert places == pytest.approx([KNOBS[knob], middle, value], rel=1e-4)


@pytest.mark.parametrize("kind", ["constant", "step", "one-cycle", "restarts", "cosine", "warmup-cosine"])
def test_schedules_stay_between_0_and_1(kind):
    values = [shape_of(kind, step / 100) for step in range(100)]
    assert max(values) == pytest.approx(1.0, abs=0.01)
    assert min(values) > 0


# --- who takes part


@pytest.mark.parametrize("program", [p for split in PROGRAMS.values() for p in split], ids=lambda p: p.name)
def test_every_fault_has_a_plain_twin_of_the_same_seed_and_learning_rate(program):
    crowd = members(program)
    for member in crowd:
        known = KNOBS.keys() >= {twist.knob for twist in member.story.twists}
        assert known
        if member.twin is not None:
            assert replace(crowd[member.twin], story=member.story, twin=member.twin) == member
            assert crowd[member.twin].story == Story()
            assert member.story.name in FAULTS
    assert {member.story.name for member in crowd} <= {"plain", *FAULTS, *ODDITIES}


def test_no_program_is_in_two_splits_and_none_twice():
    names = [program.name for split in PROGRAMS.values() for program in split]
    assert len(set(names)) == len(names)


# --- loggers


def looks(losses, every=10):
    return [
        Look(step, loss, 1.0, 0.1, loss if step % every == 0 else None)
        for step, loss in enumerate(map(float, losses), 1)
    ]


def logged(name, losses, every=10):
    return list(LOGGERS[name](looks(losses, every), Plan(len(losses), "x")))


def test_hugging_face_hides_a_nan_in_the_mean():
    rows = logged("hugging-face-10", [2.0] * 14 + [NAN] * 6, every=99)
    assert [row["loss"] for row in rows] == [2.0, 1.76]


def test_hugging_face_shows_a_nan_of_the_evaluation():
    rows = logged("hugging-face-10", [2.0] * 5 + [NAN] * 5)
    assert [math.isnan(row["eval_loss"]) for row in rows if "eval_loss" in row] == [True]


def test_lightning_rows_are_sparse():
    rows = logged("lightning-20", range(1, 41), every=20)
    assert [sorted(row.keys() - {"epoch", "step"}) for row in rows] == 2 * [
        ["lr-AdamW", "train_loss_step"],
        ["val_loss"],
        ["train_loss_epoch"],
    ]
    assert [row["train_loss_epoch"] for row in rows if "train_loss_epoch" in row] == [10.5, 30.5]


def test_an_epoch_is_one_row_and_knows_no_step():
    rows = logged("epoch", [1.0] * 10 + [3.0, 5.0] * 5)
    assert [(row["epoch"], row["loss"]) for row in rows] == [(0, 1.0), (1, 4.0)]
    assert not any("step" in row for row in rows)


def test_a_nan_in_an_epoch_is_a_nan_of_its_mean():
    assert [math.isnan(row["loss"]) for row in logged("epoch", [1.0] * 15 + [NAN] + [1.0] * 4)] == [False, True]


def test_every_step_tells_the_plan_and_everything():
    rows = logged("every-step", [1.0] * 10)
    assert rows[0] == {"event": "training_start", "total_steps": 10}
    assert len(rows) == 12


@pytest.mark.parametrize("name", LOGGERS)
def test_every_logger_writes_json_and_never_goes_back(name):
    rows = logged(name, [1.0] * 200, every=50)
    steps = [row[key] for row in rows for key in ("step", "global_step", "iter", "iteration") if key in row]
    assert json.loads(json.dumps(rows)) == rows
    assert steps == sorted(steps)
    assert bool(steps) == (name != "epoch")


# --- labels: the silent ones first


def fate(train, val=None, *, sound=True):
    train = np.asarray(train, dtype=float)
    at = np.arange(9, len(train), 10)
    return Fate(train, train[at] if val is None else np.asarray(val, dtype=float), at, sound)


def noisy(curve):
    return np.asarray(curve) + 0.02 * np.random.default_rng(0).standard_normal(len(curve))


FALL = noisy(0.5 + 2.0 * np.exp(-np.arange(400) / 60))
SPIKE = np.where(np.arange(400) // 3 == 70, 9.0, FALL)
LONGER_SPIKE = np.where((np.arange(400) > 200) & (np.arange(400) < 250), 4.0, FALL)
RISE = np.where(np.arange(400) < 200, FALL, noisy(np.linspace(0.6, 2.4, 400)))
BLOWN = np.where(np.arange(400) < 200, FALL, 40.0)
SHIFT = np.where(np.arange(400) < 200, FALL, FALL + 1.5)
SWING = FALL + np.where(np.arange(400) < 200, 0.0, 0.4 + 0.6 * np.sin(np.arange(400) * 2.3))
FLAT = noisy(np.full(400, 2.5))
GAP = np.where(np.arange(400) == 100, NAN, FALL)
LOST = np.where(np.arange(400) < 200, FALL, NAN)
TURNS = [*np.linspace(2.4, 0.8, 20), *np.linspace(0.8, 1.8, 20)]


@pytest.mark.parametrize(
    ("curve", "label"),
    [
        pytest.param(fate(FALL), "harmless", id="as its twin"),
        pytest.param(fate(SPIKE), "harmless", id="a spike"),
        pytest.param(fate(LONGER_SPIKE), "harmless", id="a long spike that came back"),
        pytest.param(fate(GAP), "harmless", id="one NaN that did not stay"),
        pytest.param(fate(FALL + 0.15), "unclear", id="a little worse"),
        pytest.param(fate(BLOWN, FALL[9::10]), "unclear", id="up, and the validation loss is well"),
        pytest.param(fate(RISE), "diverged", id="up for good"),
        pytest.param(fate(BLOWN), "explosion", id="far above the start"),
        pytest.param(fate(LOST), "nan", id="NaN to the end"),
        pytest.param(fate(FALL, sound=False), "nan", id="weights not finite"),
        pytest.param(fate(FLAT), "plateau", id="learned nothing"),
        pytest.param(fate(FALL, TURNS), "overfit", id="the validation loss turned"),
        pytest.param(fate(SWING, TURNS), "oscillation", id="swings"),
        pytest.param(fate(SWING, FALL[9::10]), "unclear", id="swings, and the validation loss is well"),
    ],
)
def test_what_becomes_of_a_run_with_a_fault(curve, label):
    assert labels.of_faulty(curve, fate(FALL), "labels-rot", 200, SHOWN).label == label


@pytest.mark.parametrize(
    ("curve", "story", "label"),
    [
        (fate(FALL), "plain", "healthy"),
        (fate(SPIKE), "spike", "healthy"),
        (fate(SHIFT, FALL[9::10]), "data-mix", "shifted"),
        (fate(SHIFT, FALL[9::10]), "plain", "unclear"),
        (fate(LOST), "plain", "unclear"),
        (fate(FLAT), "plain", "unclear"),
        (fate(FALL, TURNS), "plain", "overfit"),
    ],
)
def test_what_becomes_of_a_run_without_a_fault(curve, story, label):
    assert labels.of_healthy(curve, story, SHOWN).label == label


def test_an_objective_that_need_not_fall_is_never_sick():
    assert labels.of_healthy(fate(RISE), "plain", GAN).label == "shifted"


def test_a_fault_of_which_the_log_shows_nothing_is_not_scored():
    assert labels.of_faulty(fate(FLAT), fate(FALL), "lr-zero", 40, SHOWN).label == "dead_lr"
    assert labels.of_faulty(fate(FLAT), fate(FALL), "lr-zero", 40, BLIND).label == "unclear"
    assert labels.of_faulty(fate(FALL, TURNS), fate(FALL), "tiny-data", 0, BLIND).label == "unclear"


def test_a_fault_whose_twin_failed_too_is_not_scored():
    assert labels.of_faulty(fate(RISE), fate(RISE), "lr-jump", 200, SHOWN).label == "unclear"


def test_onsets_are_steps_from_1_at_which_the_harm_began():
    assert labels.of_faulty(fate(LOST), fate(FALL), "nan-batch", 200, SHOWN).onset == 201
    assert labels.of_faulty(fate(BLOWN), fate(FALL), "lr-jump", 200, SHOWN).onset == pytest.approx(201, abs=5)


@pytest.mark.parametrize(
    ("rows", "onset", "row"),
    [
        ([{"step": 10}, {"step": 20}, {"step": 30}], None, None),
        ([{"step": 10}, {"step": 20}, {"step": 30}], 20, 1),
        ([{"event": "training_start"}, {"iter": 10}, {"iter": 20}], 11, 2),
        ([{"global_step": 10}, {"global_step": 20}], 40, 1),
        ([{"epoch": 0}, {"epoch": 1}, {"epoch": 2}, {"epoch": 3}], 20, 2),
    ],
)
def test_the_row_of_an_onset(rows, onset, row):
    assert onset_row(onset, rows, 40) == row


# --- what is made again, and what is not


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "members", few)
    monkeypatch.setattr(origin, "members", few)
    make.made(SMALL, tmp_path)
    return tmp_path


def few(_):
    return [PLAIN, faulty(Twist("inputs", NAN, LATE))]


def test_what_is_there_is_not_made_again(made, monkeypatch):
    assert sorted(file.name for file in made.iterdir()) == [
        f"{SMALL.name}-000-plain.jsonl", f"{SMALL.name}-001-fault.jsonl", f"{SMALL.name}.npz",
    ]  # fmt: skip
    monkeypatch.delattr(make, "train")
    make.made(SMALL, made)


def test_an_interrupted_program_is_made_again(made):
    log, truth = made / f"{SMALL.name}-000-plain.jsonl", made / f"{SMALL.name}.npz"
    before = log.read_bytes()
    truth.unlink()
    log.write_text("half a li")
    assert not origin.current(SMALL, made)
    make.made(SMALL, made)
    assert log.read_bytes() == before
    assert origin.current(SMALL, made)


def test_a_changed_program_is_made_again_and_leaves_no_old_logs(made, monkeypatch):
    monkeypatch.setattr(make, "members", lambda _: [PLAIN])
    monkeypatch.setattr(origin, "members", lambda _: [PLAIN])
    assert not origin.current(SMALL, made)
    make.made(SMALL, made)
    assert [file.name for file in made.glob("*.jsonl")] == [f"{SMALL.name}-000-plain.jsonl"]


def test_another_program_learning_rate_or_torch_is_another_fingerprint(monkeypatch):
    known = {origin.fingerprint(SMALL), origin.fingerprint(SMALL._replace(lr=1.0))}
    monkeypatch.setattr(torch, "__version__", "0.1")
    assert len(known | {origin.fingerprint(SMALL)}) == 3


def test_a_truth_that_cannot_be_read_is_no_truth(made):
    (made / f"{SMALL.name}.npz").write_bytes(b"PK\x03\x04 cut")
    assert not origin.current(SMALL, made)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(make, "find_spec", lambda _: None)
    monkeypatch.setattr("sys.argv", ["make.py"])
    with pytest.raises(SystemExit, match="make zoo"):
        make.main()
