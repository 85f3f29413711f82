"""The search of the example, stopped and killed in the middle and gone on with, against one that nobody disturbed."""

from __future__ import annotations

import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits

from checker.cli import main
from trainer import sealed

ROOT = Path(__file__).parent.parent
SMALL = ["--trials=5", "--folds=2", "--rounds=8", "--samples=200", "--save-every=3"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(folder, *more):
    command = [sys.executable, ROOT / "experiments/digits_search.py", folder, *SMALL, *more]
    return subprocess.Popen(command, env=ONE_THREAD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows(folder, *events):
    """The rows that are complete; the last line may be torn."""
    found = []
    for line in (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in found if row["event"] in events]


def interrupted(folder, signum, *, after, event="fold_end"):
    """Runs the search until `after` rows of a kind are on disk, then sends the signal; returns the exit code."""
    process = start(folder)
    deadline = time.monotonic() + 60
    while not (folder / "metrics.jsonl").exists() or len(rows(folder, event)) < after:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signum)
    process.communicate()
    return process.returncode


def scores(folder):
    """Step → scores, of folds and of trials, without what a clock said."""
    return [
        (row["event"], row["step"], row.get("fold"), row["metrics"]["val_loss"], row["metrics"]["val_accuracy"])
        for row in rows(folder, "fold_end", "evaluation")
    ]


def last_line(process):
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said.splitlines()[-1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An undisturbed search, and one that was killed and then stopped; each with its last words."""
    root = tmp_path_factory.mktemp("search")
    whole, broken = root / "whole", root / "broken"
    undisturbed = start(whole)  # at the same time, to save time
    # Within the second fold of the third trial, the first that the sampler chose; then asked politely in the fourth.
    codes = [interrupted(broken, signal.SIGKILL, after=5), interrupted(broken, signal.SIGTERM, after=7)]
    assert codes == [-signal.SIGKILL, 3]
    assert 7 <= len(rows(broken, "fold_end")) < 10
    said = last_line(start(broken))
    return whole, broken, last_line(undisturbed), said


def test_a_killed_search_ends_as_the_undisturbed_one(pair):
    whole, broken, expected, said = pair
    assert said == expected
    assert said.startswith("best of 5 trials: number ")
    assert scores(broken) == scores(whole)
    best = [json.loads((folder / "training_status.json").read_text())["best_metrics"] for folder in (broken, whole)]
    assert best[0]["val_loss"] == best[1]["val_loss"]


def test_the_models_of_the_best_trial_are_kept_and_the_same(pair):
    inputs, _ = load_digits(return_X_y=True)
    for fold in range(2):
        states = [
            joblib.load(io.BytesIO(sealed.read(folder / f"checkpoints/best-fold-{fold}.joblib"))) for folder in pair[:2]
        ]
        assert states[0]["trial"] == states[1]["trial"]
        assert states[0]["scores"] == states[1]["scores"]
        assert np.array_equal(*(state["model"].predict_proba(inputs[200:]) for state in states))


def test_no_finished_fold_is_fitted_again(pair):
    _, broken, _, _ = pair
    finished = set()
    for row in rows(broken, "fold_end", "checkpoint_saved"):
        if row["event"] == "fold_end":
            finished.add(row["step"] - 1)
        else:
            assert row["step"] not in finished
    assert Counter(row["step"] for row in rows(broken, "fold_end")) == Counter(range(1, 11))
    assert len({row["run_id"] for row in rows(broken, "fold_end")}) == 3


def test_a_finished_search_has_nothing_left_to_do_and_another_is_refused(pair, monkeypatch, capsys):
    whole, _, expected, _ = pair
    search = runpy.run_path(str(ROOT / "experiments/digits_search.py"))["main"]
    before = (whole / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(sys, "argv", ["digits_search.py", str(whole), *SMALL])
    assert search() == 0
    assert capsys.readouterr().out.splitlines() == [expected]
    assert (whole / "metrics.jsonl").read_bytes() == before
    monkeypatch.setattr(sys, "argv", ["digits_search.py", str(whole), *SMALL, "--seed=2"])
    with pytest.raises(SystemExit, match="holds a search with seed 1, not 2; give another folder"):
        search()


def test_killed_after_its_last_trial_it_still_tells_its_end(pair, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(pair[0], tmp_path / "cut"))
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    end = max(place for place, line in enumerate(lines) if '"evaluation"' in line)
    (folder / "metrics.jsonl").write_text("".join(lines[:end]) + lines[end][:20])
    status = json.loads((folder / "training_status.json").read_text())
    (folder / "training_status.json").write_text(json.dumps({**status, "state": "running"}))
    monkeypatch.setattr(sys, "argv", ["digits_search.py", str(folder), *SMALL])
    assert runpy.run_path(str(ROOT / "experiments/digits_search.py"))["main"]() == 0
    assert scores(folder) == scores(pair[0])
    assert json.loads((folder / "training_status.json").read_text())["state"] == "completed"


def test_the_checker_has_nothing_against_it_and_says_what_it_cannot_judge(pair):
    _, broken, _, _ = pair
    assert main(["once", str(broken)]) == 0
    page = (broken / "diagnosis.md").read_text()
    assert "**Healthy**" in page
    assert "the scores of the folds (10 so far)" in page
