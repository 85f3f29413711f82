"""The rows of `RunLog.step` take a way of their own; what comes out is what `contract.Row` would have made of it."""

import json
import math
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contract
from contract import Row, encode
from trainer import log as log_module
from trainer.log import RunLog, _Clock
from trainer.measures import Best, as_number, as_numbers

TAKEN = {"self", "step", "lr", "learning_rate", "epoch", "gpu_memory_mb"}
NAMES = st.text(st.characters(exclude_categories=()), max_size=8).filter(lambda name: name not in TAKEN)
FLOATS = st.floats() | st.sampled_from(
    [0.1, -0.0, 1e-5, 1e16, 1e22, 5e-324, 1.7976931348623157e308, math.nan, math.inf]
)
NUMBERS = (
    FLOATS
    | st.integers(-(10**30), 10**30)
    | st.booleans()
    | FLOATS.map(np.float64)
    | st.floats(width=32).map(np.float32)
)
CALLS = st.fixed_dictionaries(
    {"step": st.integers(0, 2**63), "metrics": st.dictionaries(NAMES, NUMBERS | st.none(), max_size=5)},
    optional={"lr": NUMBERS, "epoch": st.integers(0, 10**6), "gpu_memory_mb": st.floats() | st.none()},
)


@pytest.fixture(params=["fastest", "standard library"])
def log(request, tmp_path, monkeypatch):
    if request.param == "standard library":
        monkeypatch.setattr(log_module, "_fastest", encode)
    with RunLog(tmp_path, total_epochs=3) as running:
        yield running


def refuse(constant):
    raise AssertionError(f"{constant} is not legal JSON")


def last_line(log):
    return (log.folder / "metrics.jsonl").read_bytes().split(b"\n")[-2]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(call=CALLS)
def test_a_step_is_the_row_of_the_treaty(log, call):
    fields = {name: value for name, value in call.items() if name != "metrics"}
    log.step(**fields, **call["metrics"])
    line = last_line(log)  # on disk before the call has returned
    found = json.loads(line, parse_constant=refuse)
    plain = {"learning_rate": fields.pop("lr", None), "gpu_memory_mb": fields.pop("gpu_memory_mb", None)}
    row = Row(
        event="step",
        timestamp=found["timestamp"],
        experiment_id=log.experiment.id,
        run_id=log.run_id,
        step=fields["step"],
        epoch=log._epoch,
        total_epochs=3,
        phase="train",
        metrics=as_numbers(call["metrics"]),
        wall_time_seconds=found["wall_time_seconds"],
        **{name: None if value is None else as_number(name, value) for name, value in plain.items()},
    )
    assert repr(found) == repr(json.loads(encode({name: found[name] for name in found} | row.document())))
    assert found.keys() == row.document().keys()
    assert len(line.decode().splitlines()) == 1  # also for readers to whom more than \n ends a line


@pytest.mark.parametrize(
    "metrics", [{"loss": 0.5}, {"loss": math.nan}, {"a\ud800": 1.0}, {"é\u2028": 1.0}, {}], ids=repr
)
def test_one_row_is_one_write(log, monkeypatch, metrics):
    log.step(1, loss=1.0)
    lines, write = [], os.write
    monkeypatch.setattr(contract.os, "write", lambda fd, line: lines.append(bytes(line)) or write(fd, line))
    log.step(2, lr=1e-3, epoch=0, **metrics)
    assert [json.loads(line)["step"] for line in lines if b'"event":"step"' in line] == [2]
    assert all(line.endswith(b"\n") for line in lines)


@pytest.mark.parametrize("step", [np.int64(7), True, 7], ids=["numpy", "bool", "int"])
def test_a_step_is_written_as_a_whole_number(log, step, read_status):
    log.step(step, loss=1.0)
    assert repr(json.loads(last_line(log))["step"]) == repr(int(step))
    log._status.write(1)
    assert read_status(log.folder)["step"] == int(step)


@given(st.lists(st.fixed_dictionaries({}, optional={"loss": NUMBERS, "acc": NUMBERS, "norm": NUMBERS}), max_size=8))
def test_the_best_of_steps_is_the_best_of_all_values_one_by_one(rows):
    quick, slow = Best({}), Best({})
    for row in map(as_numbers, rows):
        if not quick.see_floats(row):
            quick.see_all(row)
        for name, value in row.items():
            slow.see(name, value)
    assert repr(quick.values) == repr(slow.values)
    assert "norm" not in slow.values
    for name, best in (("loss", min), ("acc", max)):
        finite = [row[name] for row in map(as_numbers, rows) if name in row and -math.inf < row[name] < math.inf]
        assert slow.values.get(name) == (best(finite) if finite else None)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4_102_444_800 * 10**9), min_size=1, max_size=10))
def test_the_clock_tells_what_the_treaty_tells(moments):
    clock = _Clock()
    with pytest.MonkeyPatch.context() as patch:
        for moment in [*moments, moments[0] + 1, moments[0] + 999_999_999]:
            patch.setattr(log_module, "time_ns", lambda at=moment: at)
            since = np.datetime64(moment // 1000, "us")
            assert clock.read()[0] == f"{since}+00:00"
