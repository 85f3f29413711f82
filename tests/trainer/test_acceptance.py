import hashlib
import json
import math
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract import Experiment
from trainer.external.acceptance import Mismatch, accepted
from trainer.external.handover import spec_of

WEIGHTS = b"weights"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def spec(tmp_path):
    folder = tmp_path / "exp-001"
    folder.mkdir()
    (folder / "model.bin").write_bytes(WEIGHTS)
    (tmp_path / "other.bin").write_bytes(WEIGHTS)
    experiment = Experiment(
        id="exp-001",
        created_at="",
        config={"lr": 0.1},
        metric={"name": "val_err", "direction": "min"},
        fingerprints={"data": {"hash": "d1", "samples": 3, "path": "/data"}},
    )
    return spec_of(folder, experiment, "run-1")


def filled(spec, **over):
    """The stub with a value, and the changes of a row: a dotted name goes inside."""
    document = json.loads(json.dumps(spec["result"]))
    document["primary_metric"]["value"] = 0.25
    for name, value in over.items():
        place, *inside = name.split("__")
        if inside:
            document[place][inside[0]] = value
        else:
            document[place] = value
    return document


def judged(spec, document):
    with open(spec["result_path"], "w") as file:
        file.write(document if isinstance(document, str) else json.dumps(document))
    return accepted(spec)


FINE = {
    "as-handed-over": {},
    "failed-with-a-reason": {"status": "failed", "failure_reason": "no GPU", "primary_metric": None},
    "failed-with-a-value-missing": {"status": "failed", "failure_reason": "oom", "primary_metric__value": None},
    "the-hash-of-the-data-alone": {"fingerprints__data": "d1"},
    "a-checkpoint": {"checkpoint": {"path": "model.bin", "sha256": SHA256}},
    "a-checkpoint-as-text": {"checkpoint": "model.bin"},
    "a-checkpoint-with-a-step": {"checkpoint": {"path": "model.bin", "sha256": None, "step": 3}},
    "a-checkpoint-without-a-step": {"checkpoint": {"path": "model.bin", "step": None}},
    "no-secondary-metrics": {"secondary_metrics": None},
    "secondary-metrics": {"secondary_metrics": {"acc": 1, "other": "NaN"}},
    "unknown-fields": {"host": "somewhere", "primary_metric__unit": "m"},
    "an-integer": {"primary_metric__value": 3},
    "infinity": {"primary_metric__value": "-Infinity"},
}

BAD = {
    "another-experiment": ({"experiment_id": "exp-002"}, ["experiment_id"]),
    "another-run": ({"run_id": "run-0"}, ["run_id"]),
    "another-config": ({"fingerprints__config": "0"}, ["fingerprints.config"]),
    "another-data": ({"fingerprints__data": {"hash": "d2"}}, ["fingerprints.data"]),
    "no-data": ({"fingerprints__data": None}, ["fingerprints.data"]),
    "no-fingerprints": ({"fingerprints": None}, ["fingerprints.config", "fingerprints.data"]),
    "another-metric": ({"primary_metric__name": "train_err"}, ["primary_metric.name"]),
    "another-direction": ({"primary_metric__direction": "max"}, ["primary_metric.direction"]),
    "null": ({"primary_metric__value": None}, ["primary_metric.value"]),
    "true": ({"primary_metric__value": True}, ["primary_metric.value"]),
    "a-text": ({"primary_metric__value": "0.5"}, ["primary_metric.value"]),
    "a-list": ({"primary_metric__value": [1]}, ["primary_metric.value"]),
    "no-metric": ({"primary_metric": None}, ["primary_metric"]),
    "metric-a-number": ({"primary_metric": 0.25}, ["primary_metric"]),
    "running": ({"status": "running"}, ["status"]),
    "no-status": ({"status": None}, ["status"]),
    "status-a-list": ({"status": []}, ["status"]),
    "no-status-and-a-reason-that-is-none": ({"status": "done", "failure_reason": 5}, ["status", "failure_reason"]),
    "no-status-and-a-reason": ({"status": "done", "failure_reason": "oom"}, ["status"]),
    "failed-with-a-number-for-a-reason": ({"status": "failed", "failure_reason": 5}, ["failure_reason"]),
    "completed-with-a-reason": ({"failure_reason": "hm"}, ["failure_reason"]),
    "failed-without-a-reason": ({"status": "failed"}, ["failure_reason"]),
    "failed-with-an-empty-reason": ({"status": "failed", "failure_reason": " "}, ["failure_reason"]),
    "failed-with-a-text-for-a-value": (
        {"status": "failed", "failure_reason": "oom", "primary_metric__value": "?"},
        ["primary_metric.value"],
    ),
    "no-such-checkpoint": ({"checkpoint": {"path": "gone.bin"}}, ["checkpoint.path"]),
    "a-checkpoint-outside": ({"checkpoint": {"path": "../other.bin"}}, ["checkpoint.path"]),
    "a-checkpoint-far-outside": ({"checkpoint": "/etc/passwd"}, ["checkpoint.path"]),
    "a-checkpoint-without-path": ({"checkpoint": {}}, ["checkpoint.path"]),
    "a-checkpoint-a-number": ({"checkpoint": 7}, ["checkpoint.path"]),
    "a-checkpoint-with-nul": ({"checkpoint": "a\0b"}, ["checkpoint.path"]),
    "a-checkpoint-with-half-a-character": ({"checkpoint": "\ud800"}, ["checkpoint.path"]),
    "a-checkpoint-with-a-long-name": ({"checkpoint": "x" * 5000}, ["checkpoint.path"]),
    "another-checkpoint": ({"checkpoint": {"path": "model.bin", "sha256": "0"}}, ["checkpoint.sha256"]),
    "a-checkpoint-that-is-a-folder": ({"checkpoint": {"path": "."}}, ["checkpoint.path"]),
    "the-hash-of-a-folder": ({"checkpoint": {"path": ".", "sha256": SHA256}}, ["checkpoint.path"]),
    "a-step-in-words": ({"checkpoint": {"path": "model.bin", "step": "a"}}, ["checkpoint.step"]),
    "a-step-of-true": ({"checkpoint": {"path": "model.bin", "step": True}}, ["checkpoint.step"]),
    "a-folder-and-a-step-in-words": (
        {"checkpoint": {"path": ".", "step": "a", "junk": [1]}},
        ["checkpoint.step", "checkpoint.path"],
    ),
    "secondary-a-text": (
        {"secondary_metrics": {"a": "x", "b": 1, "c": None}},
        ["secondary_metrics.a", "secondary_metrics.c"],
    ),
    "secondary-a-list": ({"secondary_metrics": [1]}, ["secondary_metrics"]),
    "all-at-once": (
        {"experiment_id": 1, "run_id": 2, "status": "done", "primary_metric": {}},
        ["experiment_id", "run_id", "status", "primary_metric.name", "primary_metric.value"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("over", FINE.values(), ids=FINE)
def test_what_was_asked_for_is_accepted(spec, over):
    result, mismatches = judged(spec, filled(spec, **over))
    assert mismatches == []
    assert result is not None


@pytest.mark.parametrize(("over", "fields"), BAD.values(), ids=BAD)
def test_everything_else_is_not_and_every_mismatch_is_named(spec, over, fields):
    result, mismatches = judged(spec, filled(spec, **over))
    assert result is None
    assert [mismatch.field for mismatch in mismatches] == fields
    assert all(mismatch.reason for mismatch in mismatches)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "0.25", "\x00", "{}{}", '{"a":' * 100_000], ids=lambda text: repr(text[:8])
)
def test_a_file_that_is_no_result_is_told(spec, text):
    assert [fault.field for fault in judged(spec, text)[1]] == ["result.json"]


def test_no_file_a_folder_and_a_pipe_are_told(spec):
    assert accepted(spec)[1][0].actual is None
    os.mkfifo(spec["result_path"])
    assert "no regular file" in accepted(spec)[1][0].reason
    os.unlink(spec["result_path"])
    os.mkdir(spec["result_path"])
    assert "no regular file" in accepted(spec)[1][0].reason


def test_nan_is_a_number_whichever_way_it_is_written(spec):
    for spelled in (math.nan, "NaN"):
        result, _ = judged(spec, filled(spec, primary_metric__value=spelled))
        assert math.isnan(result.value)


def test_a_checkpoint_is_taken_down_relative_to_the_folder(spec):
    result, _ = judged(spec, filled(spec, checkpoint={"path": f"{spec['folder']}/model.bin", "step": 7, "junk": [1]}))
    assert result.checkpoint == {"path": "model.bin", "step": 7}


def test_a_link_that_leads_outside_is_outside(spec):
    os.symlink("/etc/passwd", f"{spec['folder']}/link")
    assert [fault.field for fault in judged(spec, filled(spec, checkpoint="link"))[1]] == ["checkpoint.path"]


def test_a_mismatch_says_all_four_things():
    told = str(Mismatch("run_id", "a", "b" * 200, "it is another run"))
    assert told.startswith("run_id: expected 'a', found 'bbb")
    assert told.endswith("…: it is another run")
    assert len(told) < 150


TEXT = st.text("aé\ud800\0/.", max_size=5)
PLAIN = st.none() | st.booleans() | st.floats() | st.integers() | TEXT
JSON = (
    PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["path", "value"]), PLAIN, max_size=3)
)
NAMES = ("experiment_id", "run_id", "fingerprints", "status", "primary_metric", "secondary_metrics", "checkpoint")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=200)
@given(over=st.dictionaries(st.sampled_from((*NAMES, "failure_reason")), JSON))
def test_no_content_makes_it_stumble(tmp_path_factory, over):
    folder = tmp_path_factory.mktemp("exp")
    experiment = Experiment(id="exp-001", created_at="", metric={"name": "val_err", "direction": "min"})
    spec = spec_of(folder, experiment, "run-1")
    result, mismatches = judged(spec, {**filled(spec), **over})
    assert (result is None) == bool(mismatches)
