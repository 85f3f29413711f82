"""The pure parts of `bench-next`: what is drawn, what counts as failed and as healed, and what goes on record."""

from __future__ import annotations

import math
import re
from pathlib import Path

import next_runs
import next_score
import pytest
from next_runs import SPACE, SPLITS, allowed, base, broken, nested, random_change
from next_score import START, Case, Tried
from next_train import Outcome

from checker.report import change, odd, remedies
from trainer.spec import build


def outcome(loss=2.5, **fields):
    usual = {"folder": "exp-001", "state": "completed", "killed_by": "", "alerts": (), "open": (), "steps": 300}
    return Outcome(**{**usual, "loss": loss, **fields})


BASE = outcome(2.5)
STOPPED = outcome(4.5, state="killed", killed_by="divergence", open=("divergence",))


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_runs_come_out_every_time(split):
    assert broken(split) == broken(split)
    assert len({run.name for run in broken(split)}) == next_runs.BASES[split] * len(next_runs.OF[split])


def test_tune_and_test_share_no_base_and_no_size():
    tune, test = ([base(split, number) for number in range(next_runs.BASES[split])] for split in SPLITS)
    for key in ("width", "context"):
        assert not {config["model"][key] for config in tune} & {config["model"][key] for config in test}
    assert not {config["train"]["steps"] for config in tune} & {config["train"]["steps"] for config in test}
    assert not {config["seed"] for config in tune} & {config["seed"] for config in test}


@pytest.mark.parametrize("split", SPLITS)
def test_the_trainer_takes_every_configuration_and_each_departs_from_its_base(split):
    for run in broken(split):
        assert build(run.config, where=run.name) != build(run.base, where=run.name)


@pytest.mark.parametrize("split", SPLITS)
def test_a_random_change_is_one_key_that_the_trainer_takes_and_that_does_something(split):
    for run in broken(split)[::3]:
        config = build(run.config, where="").model_dump(mode="json")
        change = random_change(run.name, config)
        assert change == random_change(run.name, config)
        ((key, value),) = change.items()
        section, _, last = key.partition(".")
        assert config[section][last] != value
        assert allowed(config, change)
        settings = next_runs.settings(change)
        assert build(config, where="", settings=settings) == build({**config, **merged(config, change)}, where="")


def merged(config, change):
    ((section, table),) = nested(change).items()
    return {section: {**config[section], **table}}


def test_every_key_is_about_as_likely_as_any_other():
    config = build(base("tune", 0), where="").model_dump(mode="json")
    keys = [next(iter(random_change(str(i), config))) for i in range(1600)]
    assert set(keys) == SPACE.keys() - {"optimizer.momentum", "schedule.step_size"}, "neither does anything here"
    assert all(50 <= keys.count(key) <= 160 for key in set(keys)), "100 of each are to be expected"


def test_the_space_has_every_key_that_a_remedy_changes():
    named = set(re.findall(r'"((?:optimizer|schedule|model|data|train)\.\w+)":', source(remedies, change, odd)))
    idle = {"train.checkpoint_every", "train.batch_size", "optimizer.beta1"}  # heals nothing, not alone, not ours
    assert named - idle <= SPACE.keys()


def source(*modules):
    return "".join(Path(module.__file__).read_text("utf-8") for module in modules)


@pytest.mark.parametrize(
    ("run", "failed"),
    [
        (STOPPED, True),
        (outcome(4.5, open=("plateau",)), True),
        (outcome(4.5, alerts=("dead_lr",)), True),
        (outcome(math.inf), True),
        (outcome(math.inf, state="failed"), True),
        (outcome(4.5), False),
        (outcome(2.7, state="killed", killed_by="divergence"), False),
        (outcome(2.6, open=("plateau",)), False),
    ],
    ids=[
        "stopped",
        "alerted",
        "alerted once",
        "no finite weights",
        "crashed",
        "nobody saw it",
        "no harm done",
        "alert without harm",
    ],
)
def test_a_run_has_failed_when_somebody_saw_it_and_it_did_harm(run, failed):
    assert Case("n", "f", BASE, run).failed is failed


@pytest.mark.parametrize(
    ("again", "healed"),
    [
        (outcome(2.5), True),
        (outcome(2.89), True),
        (outcome(2.91), False),
        (outcome(2.5, open=("overfit",)), False),
        (outcome(2.5, state="killed", killed_by="explosion"), False),
        (outcome(2.5, state="failed"), False),
        (outcome(math.inf), False),
    ],
    ids=["as the base", "four fifths closed", "less", "a warning stands", "stopped", "crashed", "not finite"],
)
def test_healed_is_sound_and_close_to_the_base(again, healed):
    assert next_score.healed(again, STOPPED, BASE) is healed


def test_a_run_that_blew_up_leaves_no_wider_gap_than_a_guess():
    blown = outcome(1e9, state="killed", killed_by="explosion")
    bar = START - next_score.CLOSED * (START - BASE.loss)
    assert next_score.healed(outcome(bar - 0.01), blown, BASE)
    assert not next_score.healed(outcome(bar + 0.01), blown, BASE)


def test_why_it_was_not_healed_is_told():
    tried = {"a": Tried("x", outcome(3.5, open=("plateau",))), "b": Tried("", None, "no change is suggested")}
    case = Case("n", "f", BASE, STOPPED, "divergence", tried)
    assert case.why_not("a") == "plateau, closes 50 % of the gap"
    assert case.why_not("b") == "no change is suggested"
    assert next_score.count([case], "a") == (0, 1)


def test_harm_that_nobody_saw_is_counted_apart():
    assert Case("n", "f", BASE, outcome(4.5)).unnoticed
    assert not Case("n", "f", BASE, STOPPED).unnoticed
    assert not Case("n", "f", BASE, outcome(2.6)).unnoticed


def test_a_base_with_findings_of_its_own_is_no_yardstick():
    assert Case("n", "f", BASE, STOPPED).failed
    assert not Case("n", "f", outcome(2.5, open=("plateau",)), STOPPED).failed
