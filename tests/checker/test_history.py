from __future__ import annotations

import pytest
from curves import rows

from checker.events import Row
from checker.history import History
from checker.names import direction


def folded(*documents, **common):
    history = History()
    for i, values in enumerate(documents):
        history.fold(Row(index=i, line=i + 1, values=values, step=i, **common))
    return history


@pytest.mark.parametrize(
    ("values", "role", "name"),
    [
        pytest.param({"loss": 1.0}, "train_loss", "loss", id="loss"),
        pytest.param({"loss": 1.0, "train_loss": 2.0}, "train_loss", "train_loss", id="the more explicit name"),
        pytest.param({"eval_loss": 1.0}, "val_loss", "eval_loss", id="eval_loss"),
        pytest.param({"Train/Loss": 1.0}, "train_loss", "Train/Loss", id="case"),
        pytest.param({"gradient_norm": 1.0}, "grad_norm", "gradient_norm", id="gradient_norm"),
        pytest.param({"lr-AdamW": 1.0}, "learning_rate", "lr-AdamW", id="lightning's monitor"),
    ],
)
def test_a_metric_finds_its_role(values, role, name):
    history = folded(values)
    assert history.series[role].last == values[name]


def test_a_role_once_taken_is_kept():
    history = folded({"loss": 1.0}, {"train_loss": 9.0}, {"loss": 0.9})
    assert list(history.train.levels) == [1.0, 0.9]


def test_a_closing_summary_is_no_point_of_the_curve():
    history = folded({"loss": 1.0}, {"loss": 0.5}, {"train_loss": 0.75, "train_runtime": 10.0})
    assert list(history.train.levels) == [1.0, 0.5]


def test_a_resumed_run_rewinds_to_its_step():
    first, again = rows(train="2.0-0.01x99"), rows(train="1.5x9", start=50)
    history = History()
    for row in [*(row._replace(run_id="a") for row in first), *(row._replace(run_id="b") for row in again)]:
        history.fold(row)
    assert history.train.count == 60
    assert history.restarts == 1


def test_a_step_that_counts_within_an_epoch_does_not_rewind():
    history = History()
    for i in range(40):
        history.fold(Row(index=i, line=i + 1, values={"loss": 2.0 - i / 100}, step=i % 10, epoch=i // 10))
    assert history.train.count == 40


def test_a_declared_change_starts_an_era():
    history = History()
    for row in rows(train="2.0-0.01x50", events=[(30, {"event": "regime_change", "text": "hard examples"})]):
        history.fold(row)
    assert history.era(history.train) == 30
    assert history.regime_text == "hard examples"


LATE = {
    "a checkpoint was written beside the training": ({"event": "checkpoint_saved", "step": 10}, 20),
    "and says nothing of its step": ({"event": "checkpoint_saved"}, 20),
    "the run was rewound": ({"event": "step", "step": 10}, 10),
    "it was resumed from a checkpoint": ({"event": "checkpoint_saved", "step": 10, "run_id": "another"}, 10),
}


@pytest.mark.parametrize(("late", "step"), LATE.values(), ids=LATE.keys())
def test_only_a_run_that_goes_back_takes_its_curve_back(late, step):
    history = History()
    for row in rows(train="2.0-0.01x20"):
        history.fold(row._replace(run_id="one"))
    history.fold(Row(index=20, line=21, values={"val_loss": 1.0}, event="evaluation", step=20))
    history.fold(Row(index=21, line=22, values={}, **late))
    assert history.step == step
    assert history.train.steps[-1] == min(20, step - 1 if step == 10 else step)
    assert history.val.count == (step == 20)


def test_gaps_are_learned_per_phase():
    history = History()
    for row in rows(train="1.0x20", seconds=2.0):
        history.fold(row)
    history.fold(Row(index=21, line=22, values={}, event="phase", phase="evaluate", at=history.at + 2))
    history.fold(Row(index=22, line=23, values={"val_loss": 1.0}, event="evaluation", at=history.at + 60))
    assert history.gap("train").longest == 2.0
    assert history.gap("evaluate").longest == 60.0


CLOCKS = {
    "the process counts on": (lambda i: 2.0 * i, 2.0 * 20 + 3600, 3600.0),
    "its clock stood still": (lambda i: 2.0 * i, 2.0 * 19 + 7.0, 7.0),
    "it started again": (lambda i: 2.0 * i, 0.5, 3600.0),
    "the duration of a step": (lambda _: 2.0, 7.0, 3600.0),
    "no clock of its own": (lambda _: None, None, 3600.0),
}


@pytest.mark.parametrize(("clock", "then", "longest"), CLOCKS.values(), ids=CLOCKS.keys())
def test_the_sleep_of_a_machine_is_no_pause(clock, then, longest):
    history = History()
    for i, row in enumerate(rows(train="1.0x19", seconds=2.0)):
        history.fold(row._replace(elapsed=clock(i)))
    history.fold(Row(index=20, line=21, values={}, step=20, at=history.at + 3600, elapsed=then))
    assert history.gap("train").longest == longest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", "min"), ("mae", "min"), ("rmse", "min"), ("perplexity", "min"), ("error", "min"), ("val_acc", "max"),
        ("roc_auc", "max"), ("f1", "max"), ("reward", "max"), ("score_loss", "min"),
    ],
)  # fmt: skip
def test_direction_when_nobody_declared_it(name, expected):
    assert direction(name) == expected


@pytest.mark.parametrize("event", ["checkpoint_saved", "training_end", "note"])
def test_what_repeats_a_measurement_is_no_point_of_the_curve(event):
    history = folded({"val_loss": 1.0}, {"val_loss": float("nan")})
    history.fold(Row(index=2, line=3, values={"val_loss": 0.5}, event=event))
    assert list(history.val.levels) == [1.0]
    assert history.bad_now("val_loss")
