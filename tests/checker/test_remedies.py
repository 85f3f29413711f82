import re
import tomllib

import pytest
from by_hand import CONFIG, NAN, case_of, experiment, falling, finding

from checker.detectors import RULES
from checker.events import Tick
from checker.finding import Severity
from checker.registry import planned
from checker.report import remedies

RUN = case_of(
    falling(100),
    plan=experiment(config=CONFIG, total_steps=1000),
    val_loss=[2 - i / 100 if i < 50 else 1 + i / 100 for i in range(100)],
    grad_norm=[1.5] * 100,
    lr=[0.009] * 100,
)


def suggest(rule, *, config=CONFIG, run=RUN, **fields):
    found = [finding(rule, **fields)] if rule else []
    return remedies.suggest(found, experiment(config=config, total_steps=1000), run.history)


def known(config, key):
    section, _, last = key.partition(".")
    return last in config.get(section, {})


NAMES = [rule.name for rule in RULES]


@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("config", [CONFIG, {}, {"optimizer": {"lr": 0.1}}, {"train": None, "model": 3}], ids=str)
def test_every_rule_has_a_remedy_that_changes_only_what_is_there(rule, config):
    suggestions = suggest(rule, config=config)
    assert 1 <= len(suggestions) <= remedies.MOST
    for item in suggestions:
        assert re.search(r"\d", item.rationale), "a rationale cites what was measured"
        assert item.idea
        assert item.effect
        assert all(known(config, key) for key in item.change)
        assert not item.idea.endswith(".")


def test_no_rule_is_without_a_remedy():
    assert set(remedies.REMEDIES) >= set(NAMES)


def test_a_rule_of_tomorrow_costs_nothing():
    assert suggest("a_rule_of_tomorrow") == []


@pytest.mark.parametrize(
    ("rule", "fields", "first"),
    [
        ("nonfinite", {}, {"train.precision": "bf16"}),
        ("divergence", {"first_step": 500}, {"optimizer.lr": 0.0027}),
        ("divergence", {"first_step": 30}, {"optimizer.lr": 0.0027}),
        ("explosion", {}, {"optimizer.lr": 0.0009}),
        ("gradient_explosion", {}, {"train.clip_norm": 1.0}),
        ("overfit", {"evidence": {"best_step": 50}}, {"data.max_bytes": 2_000_000}),
        ("dead_lr", {}, {"schedule.decay_steps": 1000}),
        ("plateau", {}, {"optimizer.lr": 0.027}),
        ("oscillation", {}, {"optimizer.lr": 0.0045}),
        ("drift", {}, {"optimizer.lr": 0.0045}),
        ("vanishing_gradient", {}, {"train.precision": "bf16"}),
        ("checkpoint_overdue", {}, {"train.checkpoint_every": 50}),
        ("budget", {}, {"train.steps": 99}),
        ("stall", {}, {}),
        ("crash", {}, {}),
        ("throughput", {}, {}),
        ("suspicious_improvement", {}, {}),
    ],
    ids=str,
)
def test_the_first_change_is_computed_from_the_runs_own_numbers(rule, fields, first):
    assert suggest(rule, **fields)[0].change == first


def test_all_of_overfit():
    changes = [item.change for item in suggest("overfit", evidence={"best_step": 50})]
    assert changes == [
        {"data.max_bytes": 2_000_000},
        {"train.steps": 50},
        {"optimizer.weight_decay": 0.3},
        {"model.dropout": 0.2},
    ]


def test_without_a_configuration_the_idea_is_in_words():
    ideas = [item.idea for item in suggest("divergence", config={}, first_step=500)]
    assert ideas[0] == "lower the learning rate to about 0.3x"


def test_clipping_that_was_on_becomes_harder():
    config = {**CONFIG, "train": {**CONFIG["train"], "clip_norm": 5.0}}
    assert suggest("gradient_explosion", config=config)[0].change == {"train.clip_norm": 2.5}


def test_nan_before_any_finite_loss_is_not_blamed_on_the_step_size():
    first = suggest("nonfinite", evidence={"finite_before": 0}, run=case_of([NAN] * 20))[0]
    assert "initial weights" in first.idea
    assert first.change == {}


def test_nan_in_validation_alone_points_at_the_evaluation():
    (only,) = suggest("nonfinite", evidence={"metric": "val_loss"})
    assert "evaluation" in only.idea
    assert only.change == {}


def test_out_of_memory_halves_the_batch_and_keeps_the_gradient():
    run = case_of(falling(50), plan=experiment(config=CONFIG))
    run.history.tick = Tick(now=0.0, error="CUDA out of memory. Tried to allocate 2 GiB")
    first = suggest("crash", run=run)[0]
    assert first.change == {"train.batch_size": 8, "train.accumulate": 2}


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (None, "resume: "),
        ("OSError: [Errno 28] No space left on device", "resume: "),
        ("RuntimeError: NCCL communicator was aborted", "resume: "),
        ("KeyError: 'body' (data.py:12: return row['body'])", "correct what raised the KeyError, then resume: "),
        ("SpecError: data.path: it changed", "correct what raised the SpecError, then resume: "),
    ],
    ids=["none", "disk", "network", "mistake", "spec"],
)
def test_a_mistake_is_to_be_corrected_before_it_is_made_again(error, first):
    run = case_of(falling(50))
    run.history.tick = Tick(now=0.0, error=error)
    assert suggest("crash", run=run)[-1].idea.startswith(first)


def test_a_constant_schedule_under_drift_gets_a_decay():
    config = {**CONFIG, "schedule": {"kind": "constant"}}
    assert suggest("drift", config=config)[0].change == {"schedule.kind": "cosine"}


def test_a_learning_rate_of_zero_is_set_not_scaled():
    config = {**CONFIG, "optimizer": {"lr": 0.0}}
    assert [item.change for item in suggest("dead_lr", config=config)] == [{"optimizer.lr": 0.001}]


def test_a_healthy_run_that_still_learns_goes_on_longer():
    run = case_of([4 - i / 100 for i in range(300)], plan=experiment(config=CONFIG, total_steps=1000))
    first = suggest(None, run=run)[0]
    assert first.change == {"train.steps": 2000, "schedule.decay_steps": 2000}
    assert "% of the whole gain came in the last quarter" in first.rationale


def test_a_healthy_run_that_has_arrived_gets_a_larger_model():
    run = case_of(falling(1000, pace=20, jitter=0.01), plan=experiment(config=CONFIG, total_steps=1000))
    config = {**CONFIG, "schedule": {**CONFIG["schedule"], "decay_steps": 1000}}
    assert suggest(None, run=run, config=config)[0].change == {"model.width": 128}


def test_a_run_that_ended_above_its_best_is_not_told_to_go_on():
    losses = [5 - i * 0.04 for i in range(50)] + [3 + i * 0.014 for i in range(50)]
    run = case_of(losses, plan=experiment(config=CONFIG, total_steps=1000))
    first, second = suggest(None, run=run)
    assert first.change == {"optimizer.lr": 0.0027}
    assert second.change == {"train.steps": 50}
    assert "the train loss ended at 3.686, 0.658" in first.rationale
    assert "above its best of step 50" in first.rationale
    assert "the whole gain" not in first.rationale


def test_a_validation_loss_that_came_back_up_is_no_reason_to_go_on():
    val = [4 - i / 40 if i < 100 else 1.5 + (i - 100) / 100 for i in range(300)]
    run = case_of([4 - i / 100 for i in range(300)], plan=experiment(config=CONFIG, total_steps=1000), val_loss=val)
    assert suggest(None, run=run)[0].change.keys() == {"train.steps"}


def test_the_rationale_names_the_learning_rate_of_the_onset():
    run = case_of(falling(100), plan=experiment(config=CONFIG), lr=[0.001 * i for i in range(100)])
    assert "(since step 80, at learning rate 0.08)" in suggest("divergence", run=run)[0].rationale


def test_a_divergence_on_the_way_to_the_peak_wants_a_peak_below_the_rate_of_the_onset():
    config = {**CONFIG, "optimizer": {"lr": 2.0}, "schedule": {"kind": "cosine", "warmup_steps": 200}}
    run = case_of(falling(100), plan=experiment(config=config), lr=[0.01 * i for i in range(100)])
    first = suggest("divergence", config=config, run=run, first_step=70, first_row=70)[0]
    assert first.change == {"optimizer.lr": 0.21}
    assert first.idea == "lower the learning rate from 2 to 0.21"


@pytest.mark.parametrize(("workers", "change"), [(4, [{"data.num_workers": 0}]), (0, []), (None, [])])
def test_workers_are_taken_away_only_where_there_are_some(workers, change):
    data = {"kind": "x"} if workers is None else {"kind": "x", "num_workers": workers}
    assert [item.change for item in suggest("stall", config={**CONFIG, "data": data})[1:]] == change


@pytest.mark.parametrize("rule", [name for name in NAMES if name != "stall"])
def test_no_other_rule_speaks_of_loaders(rule):
    assert not any("loader" in item.idea + item.effect for item in suggest(rule))


@pytest.mark.parametrize(
    ("config", "idea"), [(CONFIG, "trainer run exp-001 --resume"), ({}, "from the last checkpoint")]
)
def test_resuming_is_a_command_where_the_trainer_is_ours(config, idea):
    assert idea in suggest("crash", config=config)[0].idea


def test_a_healthy_run_with_hardly_a_row_gets_no_advice():
    assert suggest(None, run=case_of([1.0, 0.9])) == []


def test_several_findings_never_change_the_same_key_twice():
    both = [finding("gradient_explosion"), finding("divergence", severity=Severity.WARNING)]
    suggestions = remedies.suggest(both, experiment(config=CONFIG, total_steps=1000), RUN.history)
    keys = [key for item in suggestions for key in item.change]
    assert len(keys) == len(set(keys))
    assert len(suggestions) <= remedies.MOST


def test_a_remark_is_no_reason_for_a_remedy():
    note = [finding("loss_spike", severity=Severity.INFO)]
    assert remedies.suggest(note, experiment(config=CONFIG), case_of([1.0]).history) == []


@pytest.mark.parametrize("rule", NAMES)
def test_every_change_is_an_overlay_in_toml(rule):
    for item in suggest(rule):
        document = tomllib.loads(planned.toml(item.change))
        flat = {f"{table}.{key}": value for table, inner in document.items() for key, value in inner.items()}
        assert flat == item.change


def with_settings(**changed):
    """The configuration with some of its keys changed, dots written as double underscores."""
    config = {section: dict(table) for section, table in CONFIG.items()}
    for key, value in changed.items():
        section, _, last = key.partition("__")
        config[section][last] = value
    return config


SGD = {"optimizer__kind": "sgd", "optimizer__lr": 0.1, "optimizer__momentum": 0.9, "optimizer__weight_decay": 1e-4}


@pytest.mark.parametrize(
    ("rule", "config", "first"),
    [
        ("divergence", {"optimizer__lr": 0.5}, {"optimizer.lr": 0.0015, "train.clip_norm": 1.0}),
        ("explosion", {"optimizer__lr": 0.5, "train__clip_norm": 5.0}, {"optimizer.lr": 0.0015}),
        ("explosion", {**SGD, "optimizer__lr": 5.0, "train__clip_norm": 1.0}, {"optimizer.lr": 0.1}),
        ("divergence", {**SGD, "optimizer__momentum": 0.999}, {"optimizer.momentum": 0.9}),
        ("oscillation", {"optimizer__betas": [0.9999, 0.95]}, {"optimizer.betas": [0.9, 0.95]}),
        ("drift", {"optimizer__beta1": 0.9999}, {"optimizer.beta1": 0.9}),
        ("plateau", {"optimizer__weight_decay": 100.0}, {"optimizer.weight_decay": 0.1}),
        ("plateau", {"optimizer__kind": "adam", "optimizer__weight_decay": 1.0}, {"optimizer.weight_decay": 1e-4}),
        ("gradient_explosion", {"model__init_std": 5.0}, {"model.init_std": 0.02}),
        ("vanishing_gradient", {"model__init_std": 1e-5, "train__precision": "fp32"}, {"model.init_std": 0.02}),
        ("plateau", {"model__dropout": 0.95}, {"model.dropout": 0.1}),
        ("plateau", {"optimizer__lr": 1e-7}, {"optimizer.lr": 0.0015}),
        ("plateau", {"optimizer__lr": 2e-5}, {"optimizer.lr": 0.0015}),
        ("plateau", {"optimizer__lr": 6e-4}, {"optimizer.lr": 0.0018}),
        ("plateau", {"schedule__warmup_steps": 5000}, {"schedule.warmup_steps": 50}),
        ("plateau", {"schedule__kind": "step", "schedule__step_size": 10, "schedule__gamma": 0.1},
         {"schedule.step_size": 500}),
        ("plateau", {**SGD, "train__clip_norm": 1e-5}, {"train.clip_norm": 1.0}),
        ("dead_lr", {**SGD, "optimizer__lr": 0.0}, {"optimizer.lr": 0.1}),
        ("divergence", {"optimizer__kind": "lion", "optimizer__lr": 0.5}, {"optimizer.lr": 0.15}),
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_far_outside_of_what_is_usual_comes_first(rule, config, first):
    found = suggest(rule, config=with_settings(**config), first_step=500)[0]
    assert found.change == first
    assert re.search(r"\d", found.rationale)


def test_of_two_odd_settings_the_one_further_outside_comes_first():
    config = with_settings(optimizer__lr=0.03, model__init_std=30.0, train__clip_norm=1.0)
    first, second, *_ = suggest("explosion", config=config, first_step=500)
    assert (first.change, second.change) == ({"model.init_std": 0.02}, {"optimizer.lr": 0.0015})


def test_after_a_rate_that_was_too_much_in_the_warm_up_the_usual_one_may_be_too_much_as_well():
    config = with_settings(optimizer__lr=0.5, schedule__warmup_steps=200, train__clip_norm=1.0)
    run = case_of(falling(100), plan=experiment(config=config), lr=[0.0025 / 80 * i for i in range(100)])
    assert suggest("divergence", config=config, run=run)[0].change == {"optimizer.lr": 0.00075}


def test_an_odd_setting_is_told_of_a_run_without_a_fault_only_when_it_is_far_outside():
    run = case_of([4 - i / 100 for i in range(300)], plan=experiment(config=CONFIG, total_steps=1000))
    assert suggest(None, run=run, config=with_settings(optimizer__lr=0.5))[0].change["optimizer.lr"] == 0.0015
    assert "optimizer.lr" not in suggest(None, run=run, config=with_settings(optimizer__lr=0.015))[0].change


def test_data_that_were_read_often_are_wanted_so_that_they_are_read_four_times():
    run = case_of(falling(100), plan=experiment(config=CONFIG), val_loss=[3.0] * 100)
    run.history.epoch = 30.0
    first = suggest("overfit", run=run)[0]
    assert first.change == {"data.max_bytes": 8_000_000}
    assert "the data were read 30 times" in first.rationale


def test_what_was_tried_is_not_suggested_again_and_makes_room():
    def again(tried):
        return [
            item.change
            for item in remedies.suggest(
                [finding("divergence", first_step=500)], experiment(config=CONFIG), RUN.history, tried
            )
        ]

    every = again(lambda _: False)
    assert (
        again(lambda change: change == every[0])
        == every[1:] + again(lambda change: change == every[0])[len(every) - 1 :]
    )
    assert again(lambda _: True) == [], "only what changes nothing could be left"


def test_what_is_done_by_hand_is_never_tried():
    found = remedies.suggest([finding("stall")], experiment(config=CONFIG), RUN.history, lambda _: True)
    assert [item.change for item in found] == [{}]


def test_a_lower_rate_is_argued_for_with_the_rate_at_which_the_loss_was_lowest():
    config = with_settings(optimizer__lr=0.5, schedule__warmup_steps=200)
    losses = [4 - i / 20 if i < 40 else 2 + (i - 40) / 20 for i in range(100)]
    run = case_of(losses, plan=experiment(config=config), lr=[0.0025 * i for i in range(100)])
    first = suggest("divergence", config=config, run=run, first_step=60, first_row=60)[0]
    assert first.rationale.endswith("for adamw; the train loss was lowest at step 39, at a rate of 0.0975")
