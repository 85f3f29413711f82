"""`result.json` and `result.md`."""

import json
import math

import pytest

from contract import Experiment, Hypothesis, front_matter
from trainer import result
from trainer.result import page

TIERS = {"must_pass": 0.5, "should_pass": 0.3, "could_pass": 0.1}
NASTY = "loss|a <b>&\n# heading\t`x` *y* [z](u) \ud800"


def written(root, value, *, name="val_err", direction="min", **over):
    folder = root / "exp-002"
    folder.mkdir(exist_ok=True)
    about = {"tiers": TIERS, "metric": {"name": name, "direction": direction}, **over.pop("about", {})}
    experiment = Experiment(id="exp-002", created_at="", **about)
    given = {"run_id": "r", "secondary": {}, "fingerprints": {"config": "c"}, **over}
    document = result.write(folder, experiment, value=value, **given)
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(document))
    return document, (folder / "result.md").read_text()


def parent_with(root, metric, status="completed"):
    (root / "exp-001").mkdir()
    (root / "exp-001/result.json").write_text(json.dumps({"status": status, "primary_metric": metric}))
    return {"parent": "exp-001"}


@pytest.mark.parametrize(
    ("value", "direction", "reached", "missed"),
    [
        (math.nan, "min", "fail", 3),
        (None, "min", "fail", 3),
        (math.inf, "min", "fail", 3),
        (0.6, "min", "fail", 3),
        (0.5, "min", "must_pass", 2),
        (0.3, "min", "should_pass", 1),
        (0.1, "min", "could_pass", 0),
        (0.05, "max", "fail", 3),
        (-math.inf, "min", "could_pass", 0),
    ],
    ids=["nan", "never-measured", "infinite", "misses-the-floor", "floor", "should", "could", "max", "minus-infinity"],
)
def test_the_tier_that_is_reached(tmp_path, value, direction, reached, missed):
    document, text = written(tmp_path, value, direction=direction)
    assert (document["oracle_tier"], len(document["shortfalls"])) == (reached, missed)
    assert f"oracle_tier: {reached}\n" in text


def test_a_tier_above_does_not_make_up_for_one_below(tmp_path):
    document, _ = written(tmp_path, 0.4, about={"tiers": {"must_pass": 0.3, "should_pass": 0.5}})
    assert (document["oracle_tier"], document["shortfalls"]) == ("fail", ["must_pass: val_err is 0.4, asked was 0.3"])


def test_without_tiers_nothing_is_reached_or_missed(tmp_path):
    document, text = written(tmp_path, 0.4, about={"tiers": {}})
    assert (document["oracle_tier"], document["shortfalls"]) == (None, [])
    assert "oracle_tier: null" in text
    assert "No tiers were declared" in text


@pytest.mark.parametrize(
    ("direction", "parents", "gain", "words"),
    [
        ("min", {"name": "val_err", "value": 0.5}, 0.25, "0.25 better than its parent exp-001"),
        ("max", {"name": "val_err", "value": 0.5}, -0.25, "0.25 worse than its parent exp-001"),
        ("min", {"name": "val_err", "value": 0.25}, 0.0, "the same as its parent exp-001"),
        ("min", {"name": "val_err", "value": "NaN"}, None, "its parent exp-001 has no value to compare with"),
        ("min", {"name": "train_err", "value": 0.5}, None, "its parent exp-001 has no value to compare with"),
        ("min", {"name": "val_err", "value": True}, None, "its parent exp-001 has no value to compare with"),
        ("min", "0.5", None, "its parent exp-001 has no value to compare with"),
    ],
    ids=["better", "worse", "same", "nan", "another-metric", "a-bool", "a-text"],
)
def test_the_change_against_the_parent(tmp_path, direction, parents, gain, words):
    about = parent_with(tmp_path, parents)
    document, text = written(tmp_path, 0.25, direction=direction, about=about)
    assert document["primary_metric"]["gain_vs_parent"] == gain
    assert words in text


def test_a_parent_without_a_result_and_one_that_failed_are_no_yardstick(tmp_path):
    document, _ = written(tmp_path, 0.25, about={"parent": "exp-000"})
    assert document["primary_metric"]["delta_vs_parent"] is None
    about = parent_with(tmp_path, {"name": "val_err", "value": 0.5}, status="failed")
    document, _ = written(tmp_path, 0.25, about=about)
    assert document["primary_metric"]["delta_vs_parent"] is None


@pytest.mark.parametrize(
    ("status", "best", "gain", "words"),
    [
        ("killed", 0.75, 0.5, "0.5 better than its parent exp-001 (killed)"),
        ("failed", 0.125, -0.125, "0.125 worse than its parent exp-001 (failed)"),
        ("aborted", 0.25, 0.0, "the same as its parent exp-001 (aborted)"),
        ("running", 0.75, 0.5, "0.5 better than its parent exp-001 (running)"),
        ("killed", "NaN", None, "its parent exp-001 (killed) has no value to compare with"),
        ("killed", None, None, "its parent exp-001 (killed) has no value to compare with"),
        ("completed", 0.75, 0.25, "0.25 better than its parent exp-001."),
    ],
    ids=["killed", "failed", "aborted", "running", "nan", "never-measured", "completed-has-a-result"],
)
def test_a_parent_that_is_not_completed_counts_by_its_best_value(tmp_path, status, best, gain, words):
    about = parent_with(tmp_path, {"name": "val_err", "value": 0.5})
    document = {"state": status, "best_metrics": {"val_err": best}}
    (tmp_path / "exp-001/training_status.json").write_text(json.dumps(document))
    found, text = written(tmp_path, 0.25, about=about)
    assert found["primary_metric"]["gain_vs_parent"] == gain
    assert found["parent_state"] == (None if status == "completed" else status)
    assert words in text


@pytest.mark.parametrize("best", [[], "x", None], ids=str)
def test_the_status_of_a_parent_may_hold_anything(tmp_path, best):
    about = parent_with(tmp_path, {})
    (tmp_path / "exp-001/training_status.json").write_text(json.dumps({"state": "killed", "best_metrics": best}))
    assert written(tmp_path, 0.25, about=about)[0]["primary_metric"]["gain_vs_parent"] is None


def test_a_value_that_is_not_finite_is_compared_with_nothing(tmp_path):
    about = parent_with(tmp_path, {"name": "val_err", "value": 0.5})
    document, text = written(tmp_path, math.nan, about=about)
    assert (document["primary_metric"]["value"], document["primary_metric"]["gain_vs_parent"]) == ("NaN", None)
    assert "  value: .nan\n" in text


def test_the_primary_metric_is_not_among_the_others(tmp_path):
    document, text = written(tmp_path, 0.25, secondary={"val_err": 0.3, "acc": 0.9})
    assert document["secondary_metrics"] == {"acc": 0.9}
    assert "- acc = 0.9" in text


@pytest.mark.parametrize("where", ["name", "secondary"])
def test_any_name_stays_on_its_line_and_shows_as_it_is(tmp_path, where):
    over = {"name": NASTY} if where == "name" else {"secondary": {NASTY: 1.0}}
    document, text = written(tmp_path, 0.25, **over)
    head, body = text.split("\n---\n", 1)
    assert "<b>" not in body.replace("\\<b\\>", "")
    assert "\n# heading" not in text
    assert "loss\\|a" in body
    assert json.dumps(NASTY) in head  # as JSON writes it, which is YAML too
    assert document["primary_metric"]["name"] == (NASTY if where == "name" else "val_err")


def test_the_front_matter_parses_back(tmp_path):
    _, text = written(tmp_path, 0.25, secondary={"acc: x": 0.9})
    found, body = front_matter(text)
    assert (found["exp_id"], found["oracle_tier"], found["value"], found["name"]) == (
        "exp-002", "should_pass", "0.25", "val_err",
    )  # fmt: skip
    assert body[1] == "# Result: exp-002"
    assert Hypothesis.parse(text).exp_id == "exp-002"


@pytest.mark.parametrize("value", [math.nan, None, 0.25, -math.inf, 1e-9], ids=str)
def test_the_front_matter_is_yaml(tmp_path, value):
    yaml = pytest.importorskip("yaml")
    _, text = written(tmp_path, value, name=NASTY, secondary={"a: b": 0.9, "no": math.inf})
    found = yaml.safe_load(text.split("---\n")[1])
    assert found["primary_metric"]["name"] == NASTY
    assert found["primary_metric"]["value"] == (pytest.approx(value, nan_ok=True) if value is not None else None)
    assert found["secondary_metrics"] == {"a: b": 0.9, "no": math.inf}


def test_an_id_that_is_no_word_is_quoted():
    document = {
        "experiment_id": "a: b # c", "oracle_tier": None, "shortfalls": [], "secondary_metrics": {}, "parent": None,
        "primary_metric": {"name": "m", "value": None, "direction": "min", "delta_vs_parent": None},
        "evaluated_at": "t",
    }  # fmt: skip
    assert page(document).splitlines()[1] == 'exp_id: "a: b # c"'
    assert "m was never measured." in page(document)
