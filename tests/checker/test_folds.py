"""Folds of a cross-validation and trials of a search: their scores are no curve."""

from __future__ import annotations

import math
import random

import pytest
from curves import noisy_descent, only, play, rows, tick, told

from checker import replay
from checker.events import Life, Plan
from checker.report import pages
from checker.rows import decode
from contract import Experiment, Row, encode


def fold(place, folds=10, *, seconds=60.0, step=None, **scores):
    """The row of a fold as a trainer writes it, as the checker reads it; the clock gives each place its time."""
    return written("fold_end", place, seconds=seconds, fold=place % folds, folds=folds, step=step, metrics=scores)


def written(event, place, *, seconds=60.0, **fields):
    at = 1e9 + (place + 1) * seconds
    stamp = f"{at:.6f}"  # a number is a time stamp too
    document = Row(event=event, timestamp="", **fields).document() | {"timestamp": float(stamp)}
    return decode(encode(document), place, place + 1)


def numbered(events):
    return [event._replace(index=place, line=place + 1) for place, event in enumerate(events)]


def search(trials, folds=5, seed=1, spread=4.0):
    """The rows of a search whose trials differ by orders of magnitude, each with the mean of its folds behind it."""
    chance, made = random.Random(seed), []
    for trial in range(trials):
        level = 10 ** chance.uniform(-spread, spread)
        scores = [level * chance.uniform(0.5, 2) for _ in range(folds)]
        made += [fold(trial * folds + k, folds, step=trial * folds + k + 1, val_loss=s) for k, s in enumerate(scores)]
        made.append(
            written("evaluation", len(made), step=(trial + 1) * folds, metrics={"val_loss": sum(scores) / folds})
        )
    return numbered(made)


UP_AND_DOWN = [fold(i, val_loss=1.0 + 0.9 * (-1) ** i, train_loss=0.5 + 0.4 * (-1) ** i) for i in range(10)]
RISING = [fold(i, val_loss=0.1 * 2**i, train_loss=1.0 / (i + 1)) for i in range(10)]
LEARNED_ALIKE = [fold(i, folds=50, val_loss=2.3026, train_loss=2.3026) for i in range(50)]
SILENT = {
    "ten folds, up and down": UP_AND_DOWN,
    "each fold worse than the one before, while the train loss falls": RISING,
    "fifty folds with the same scores": LEARNED_ALIKE,
    "trials that differ by eight orders of magnitude": search(60),
    "trials that only get worse": numbered(
        [written("evaluation" if i % 3 == 2 else "fold_end", i, metrics={"val_loss": 1.1**i}) for i in range(120)]
    ),
    "scores that nobody measured": [fold(i, val_loss=1.0 if i < 8 else None) for i in range(10)],
}


@pytest.mark.parametrize("events", SILENT.values(), ids=SILENT.keys())
def test_nothing_is_said_about_scores(events):
    case = play([*events, tick(events[-1].at + 1, final=True)])
    assert case.findings == []


@pytest.mark.parametrize("steps", ["go on", "begin anew"])
def test_each_fold_of_a_network_is_a_curve_of_its_own(steps):
    """Five healthy trainings one after another, each of which begins where an untrained network begins."""
    made = []
    for k in range(5):
        losses = noisy_descent(100, seed=k)
        start = 100 * k if steps == "go on" else 0
        made += rows(train=losses, val=[loss * 1.1 for loss in losses], val_every=1, start=start)
        made.append(fold(0, 5, step=start + 99, val_loss=0.7)._replace(fold=k))
    case = play(at_each_second(numbered(made)))
    assert told(case) == []


def test_a_network_that_diverges_in_its_third_fold_is_still_found():
    made = []
    for k in range(3):
        made += [*rows(train=noisy_descent(100, seed=k), start=130 * k), fold(0, 3, step=130 * k + 99, val_loss=0.7)]
    made = [*made[:-1], *rows(train="9.0*1.2x29", start=360)]
    assert play(at_each_second(numbered(made))).kill.rule in ("explosion", "divergence")


def at_each_second(events):
    return [event._replace(at=1e9 + place) for place, event in enumerate(events)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("name", ["val_loss", "train_loss", "accuracy"])
def test_a_score_that_is_no_number_is_told_and_killed_for_never(name, value):
    events = [fold(i, **{name: value if i == 3 else 1.0}) for i in range(10)]
    case = play([*events, tick(events[-1].at + 1, final=True)])
    assert told(case) == [("nonfinite", "alert")]
    found = only(case, "nonfinite")[0]
    assert found.summary == f"{name} is {value} in fold 3 of 0 to 9"
    assert (found.row, found.first_row, found.evidence["fold"]) == (3, 3, 3)


def test_nan_in_the_very_first_fold_and_in_all_of_them_is_one_finding():
    case = play([fold(i, val_loss=math.nan) for i in range(40)])
    assert told(case) == [("nonfinite", "alert")]
    assert case.findings[0].first_row == 0


def test_the_mean_over_folds_is_told_as_such():
    case = play(numbered([*UP_AND_DOWN, written("evaluation", 10, metrics={"val_loss": math.nan})]))
    assert [finding.summary for finding in case.findings] == ["val_loss is nan in the summary of the folds before"]


def test_a_train_loss_that_is_nan_after_a_fold_is_killed_for_as_elsewhere():
    made = [*rows(train="2.0-0.01x50"), fold(0, 5, step=50, val_loss=1.0), *rows(train="2.0-0.01x20 nan", start=51)]
    assert play(at_each_second(numbered(made))).kill.rule == "nonfinite"


@pytest.mark.parametrize(
    "text",
    ['{"step": 3, "loss": 0.4, "fold": 2, "folds": 5}', '{"event": "epoch_end", "loss": 0.4, "fold": 2, "folds": 5}'],
    ids=["flat", "another event"],
)
def test_elsewhere_fold_is_the_name_of_a_metric_as_ever(text):
    row = decode(text.encode(), 0, 1)
    assert row.values == {"loss": 0.4, "fold": 2, "folds": 5}
    assert (row.fold, row.folds) == (None, None)


def test_what_cannot_be_judged_is_said_once():
    told = replay.cannot_judge(play(UP_AND_DOWN))
    assert told[0].startswith("the scores of the folds (10 so far), each of another model")
    assert not any("no train_loss" in line for line in told)


@pytest.mark.parametrize(
    ("value", "state", "expected"),
    [
        (0.5, "completed", [
            "12 folds ended, 5 per cross-validation; 1 evaluation summed them up. The log has",
            "None: no fault was found, and nothing that was measured points at a next experiment.",
            "![no curve: the scores of folds](curve.svg)",
            "| best val_loss (status file) | 0.4 |",
        ]),
        (math.nan, "running", [
            "val_loss is nan in fold 1 of 0 to 4; at step 7, called at once",
            "A mean over folds is no number when one of them is none",
            "- every fold trains a model of its own: the others need not be hurt",
            "- **By hand**: fit that fold alone with its parameters",
        ]),
    ],
    ids=["well", "one is NaN"],
)  # fmt: skip
def test_the_diagnosis_of_a_search_reads_right(tmp_path, value, state, expected):
    made = [fold(i, 5, step=i + 1, val_loss=value if i == 6 else 0.4) for i in range(12)]
    made.append(written("evaluation", 12, step=12, metrics={"val_loss": 0.4}))
    status = {"state": state, "run_id": "a", "best_metrics": {"val_loss": 0.4}}
    experiment = Experiment(id="exp-001", created_at="", total_steps=12)
    case = play(numbered(made), Plan(experiment))
    pages.write(tmp_path, case, status=status, experiment=experiment, acts=[], unreadable=[])
    text = (tmp_path / "diagnosis.md").read_text()
    assert [line for line in expected if line not in text] == []
    assert "loss" not in (tmp_path / "curve.svg").read_text().split("<title>")[1].split("</title>")[0]


# --------------------------------------------------------------------------------------- long fits and the clock

TEN_MINUTES = 600.0
BEGIN = [written("training_start", -1, seconds=1.0)._replace(index=0, line=1)]


def fitted(count, *seconds):
    """A run after `count` folds of so many seconds each, with the rows that a RunLog writes around them."""
    made, at = [*BEGIN], 1e9
    for k in range(count):
        at += seconds[k % len(seconds)]
        made.append(fold(k, val_loss=1.0)._replace(at=at))
        if not k:
            made.append(written("phase", k, phase="fit")._replace(at=at))
    return numbered(made)


def look(events, after, *, busy, phase="fit"):
    at = events[-1].at + after
    alive = {"life": Life.ALIVE, "heartbeat_at": at - 0.5, "progress_at": events[-1].at, "busy": busy, "phase": phase}
    return [str(finding.action) for finding in only(play([*events, tick(at, **alive)]), "stall")]


FITS = {
    "the first fit, computing for 29 minutes": (BEGIN, 29 * 60, 1.0, "start", []),
    "the first fit, waiting for 9 minutes": (BEGIN, 9 * 60, 0.0, "start", []),
    "the second fit, computing as long as the first": (fitted(1, TEN_MINUTES), 620, 1.0, "fit", []),
    "the second fit, ten times as long as the first": (fitted(1, 120.0), 1200, 1.0, "fit", []),
    "the third fit, computing elsewhere": (fitted(2, TEN_MINUTES), 620, 0.0, "fit", []),
    "the fourth fit": (fitted(3, TEN_MINUTES), 620, 1.0, "fit", []),
    "the eighth fit": (fitted(7, TEN_MINUTES), 700, 1.0, "fit", []),
    "the eighth fit, computing elsewhere": (fitted(7, TEN_MINUTES), 700, 0.0, "fit", []),
    "a large forest after small ones": (fitted(30, 2.0), 1500, 1.0, "fit", []),
    "a large forest elsewhere after small ones": (fitted(30, 2.0), 590, 0.0, "fit", []),
    "the first fit, computing for 31 minutes": (BEGIN, 31 * 60, 1.0, "start", ["alert"]),
    "the first fit, computing for a day": (BEGIN, 86400, 1.0, "start", ["alert"]),
    "a large forest, computing for a day": (fitted(30, 2.0), 86400, 1.0, "fit", ["alert"]),
    "the first fit, waiting for 11 minutes": (BEGIN, 11 * 60, 0.0, "start", ["alert"]),
    "a fit that waits for twice as long as any before took": (fitted(7, TEN_MINUTES), 2400, 0.0, "fit", ["alert"]),
    "a fit that waits for ever": (fitted(7, TEN_MINUTES), 8000, 0.0, "fit", ["kill"]),
    "the first fit waits for ever": (BEGIN, 3000, 0.0, "start", ["kill"]),
}


@pytest.mark.parametrize(("events", "after", "busy", "phase", "said"), FITS.values(), ids=FITS.keys())
def test_a_fit_without_rows_is_a_long_one_before_it_is_a_stall(events, after, busy, phase, said):
    assert look(events, after, busy=busy, phase=phase) == said
