from __future__ import annotations

import json

import pytest
from curves import noisy_descent, rows

import contract
from checker import backtest
from checker.cli import main

RUNS = {
    "good": {"train": noisy_descent()},
    "nan": {"train": [*noisy_descent(200), *[float("nan")] * 20]},
    "back": {"train": [*noisy_descent(200, 2.0, 1.0), *[3.0] * 60, *noisy_descent(200, 0.9, 0.2)]},
}
LABELS = [
    {"id": "good", "label": "healthy"},
    {"id": "nan", "label": "nan", "onset_row": 200},
    {"id": "back", "label": "spike_recovered"},
]


@pytest.fixture
def folder(tmp_path):
    for name, series in RUNS.items():
        lines = [json.dumps({"step": row.step, "ts": row.at, **row.values}) for row in rows(**series)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "metrics.jsonl").mkdir()
    (tmp_path / contract.EVENTS).write_text('{"seq": 1, "kind": "begin"}\n')  # what a checker tells is no run
    (tmp_path / "labels").write_text("\n".join(map(json.dumps, LABELS)))
    return tmp_path


def counted(folder):
    labels = backtest.read_labels(folder / "labels")
    files = backtest.recorded([folder])
    return backtest.Backtest(backtest.run(files, labels, jobs=1, tell=lambda: None))


def test_every_run_is_counted_once(folder):
    found = counted(folder)
    assert sorted(outcome.rule or "" for outcome in found.outcomes) == ["", "divergence", "nonfinite"]


def test_a_kill_of_a_run_that_ended_well_is_listed(folder):
    document = counted(folder).document()
    assert document["kills_of_runs_that_ended_well"] == [str(folder / "back.jsonl")]
    assert document["hours_saved"] > 0


def test_classes_have_shares_with_intervals_and_delays(folder):
    classes = {one["label"]: one for one in counted(folder).classes()}
    assert classes["nan"]["killed"] == 1
    assert classes["nan"]["delay_rows"] == 0
    assert classes["healthy"]["killed_interval"] == pytest.approx((0.0, 0.975), abs=1e-6)


@pytest.mark.parametrize(
    ("hits", "of", "expected"),
    [
        pytest.param(0, 3000, (0.0, 0.0012288), id="none in 3,000: under 0.13 %"),
        pytest.param(5, 10, (0.187086, 0.812914), id="five in ten"),
        pytest.param(10, 10, (0.691503, 1.0), id="all"),
        pytest.param(1, 100, (0.000253, 0.054459), id="one in a hundred"),
    ],
)
def test_the_interval_is_clopper_and_pearsons(hits, of, expected):
    assert backtest.interval(hits, of) == pytest.approx(expected, abs=2e-6)


def test_the_command_prints_json_and_draws_curves(folder, capsys):
    assert main(["backtest", str(folder), "--json", "--jobs", "1", "--curves", str(folder / "curves")]) == 0
    assert json.loads(capsys.readouterr().out)["would_kill"] == 2
    assert [path.name for path in (folder / "curves").iterdir()] == ["001-back.svg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["missing"], "no such file or folder", id="nothing there"),
        pytest.param(["."], "no run folders and no logs of a known format", id="nothing in it"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, arguments, said, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["backtest", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_bad_label_is_named_with_its_line(folder):
    (folder / "labels").write_text('{"id": "good", "label": "healthy"}\n{"id": 3}\n')
    with pytest.raises(ValueError, match="labels:2: a label needs id"):
        backtest.read_labels(folder / "labels")
