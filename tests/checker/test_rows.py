"""Every way in which a trainer writes a row."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checker import replay
from checker.events import Row, Unreadable
from checker.rows import MAX_LINE, decode

ZERO_OPERATORS = {
    "timestamp": "2026-03-01T10:00:00.000000+00:00", "event": "epoch_end", "experiment_id": "exp-001",
    "experiment_name": "resnet", "epoch": 3, "total_epochs": 10, "metrics": {"train_loss": 0.5, "val_loss": 0.6},
    "learning_rate": 0.001, "checkpoint_path": None, "wall_time_seconds": 12.5, "gpu_memory_mb": None, "config": {},
}  # fmt: skip


def read(document):
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode(data, 7, 9)


@pytest.mark.parametrize(
    ("data", "values"),
    [
        pytest.param(b'{"step": 3, "loss": 0.4, "lr": 1e-3}', {"loss": 0.4, "lr": 1e-3}, id="flat"),
        pytest.param(b'{"loss": NaN, "grad_norm": -Infinity}', {"loss": math.nan, "grad_norm": -math.inf}, id="bare"),
        pytest.param(b'{"loss": "NaN", "x": "-Infinity"}', {"loss": math.nan, "x": -math.inf}, id="spelled"),
        pytest.param(b'{"loss": null}', {"loss": None}, id="null"),
        pytest.param(b'{"metrics": {"a": 1, "b": {"c": 2}}}', {"a": 1, "b/c": 2}, id="groups"),
        pytest.param(b'{"loss": 1, "note": "fine", "tags": ["a"], "ok": true}', {"loss": 1}, id="text is no metric"),
        pytest.param(json.dumps(ZERO_OPERATORS).encode(), {"train_loss": 0.5, "val_loss": 0.6}, id="zero-operators"),
    ],
)
def test_values(data, values):
    row = read(data)
    assert isinstance(row, Row)
    assert (row.index, row.line) == (7, 9)
    found = {key: value for key, value in row.values.items() if key not in {"learning_rate", "gpu_memory_mb"}}
    assert found == pytest.approx(values, nan_ok=True)


def test_a_zero_operators_row_is_read_without_loss():
    row = read(ZERO_OPERATORS)
    assert (row.event, row.epoch, row.total_epochs, row.elapsed) == ("epoch_end", 3, 10, 12.5)
    assert row.values["learning_rate"] == 0.001
    assert row.at == 1772359200.0


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        pytest.param({"timestamp": "2026-03-01T10:00:00Z"}, 1772359200.0, id="iso"),
        pytest.param({"_timestamp": 1772359200.5}, 1772359200.5, id="seconds"),
        pytest.param({"ts": 1772359200500}, 1772359200.5, id="milliseconds"),
        pytest.param({"time": 12.0}, None, id="a duration is no date"),
        pytest.param({"timestamp": "yesterday"}, None, id="words"),
    ],
)
def test_times(fields, at):
    assert read({"loss": 1.0, **fields}).at == at


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"[1, 2]", "expected a JSON object, found list", id="array"),
        pytest.param(b'{"loss": 1', "not valid JSON", id="torn"),
        pytest.param(b'{"loss": 1}{"loss": 2}', "not valid JSON", id="glued"),
        pytest.param(b"\xff\xfe{}", "not UTF-8 (byte 1)", id="not UTF-8"),
        pytest.param(b"\0\0\0", "binary data", id="binary"),
        pytest.param(b'{"a": "' + b"x" * MAX_LINE + b'"}', "bytes long", id="enormous"),
    ],
)
def test_unreadable(data, reason):
    event = read(data)
    assert isinstance(event, Unreadable)
    assert event.line == 9
    assert reason in event.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
KEYS = st.sampled_from(
    ["step", "epoch", "timestamp", "metrics", "config", "event", "loss", "wall_time_seconds", "run_id"]
)


@given(st.dictionaries(KEYS | st.text(), JSON))
def test_no_object_costs_the_row(document):
    row = read(document)
    assert isinstance(row, Row)
    assert all(value is None or isinstance(value, int | float) for value in row.values.values())


@given(st.binary())
def test_no_bytes_raise(data):
    assert isinstance(decode(data, 0, 1), Row | Unreadable)


@pytest.mark.parametrize(
    ("text", "values", "step"),
    [
        pytest.param('{"step": 1' + "0" * 30 + ', "loss": 1.0}', {"loss": 1.0}, None, id="a step beyond counting"),
        pytest.param('{"step": 1, "loss": 1' + "0" * 400 + "}", {"loss": math.inf}, 1, id="a loss of 401 digits"),
        pytest.param('{"step": 1, "tokens": 1' + "0" * 25 + "}", {"tokens": 1e25}, 1, id="many tokens"),
        pytest.param('{"step": 1, "epoch": 1' + "0" * 400 + "}", {}, 1, id="an epoch of 401 digits"),
    ],
)
def test_enormous_integers_cost_nothing(text, values, step):
    row = read(text.encode())
    assert (row.values, row.step) == (values, step)
    assert replay.play([row, row._replace(index=8)]).history.index == 8
