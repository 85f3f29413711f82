from __future__ import annotations

import pytest
from curves import experiment, noisy_descent, only, play, rows, told

FALLING = "2.0-0.015x99"

SILENT = [
    pytest.param({"train": FALLING, "val": "2.1-0.012x99"}, id="both fall"),
    pytest.param({"train": FALLING, "val": "2.1-0.02x50 1.1x49~0.05"}, id="validation flat and noisy"),
    pytest.param({"train": "2.0-0.02x50 1.0+0.02x49", "val": "2.1-0.02x50 1.1+0.02x49"}, id="both rise: divergence"),
    pytest.param({"train": FALLING, "val": "2.1-0.02x50 1.5 1.11-0.002x40"}, id="one bad evaluation"),
    pytest.param({"train": noisy_descent(100), "val": noisy_descent(10, 2.2, 0.7, 0.02), "val_every": 10}, id="sparse"),
    pytest.param({"train": FALLING, "val": "-1.0-0.01x99"}, id="negative validation loss"),
]

ALERTS = [
    pytest.param({"train": FALLING, "val": "2.1-0.03x40 0.95+0.01x58"}, 40, id="a clear turn"),
    pytest.param({"train": FALLING, "val": "2.1-0.3x4 0.95+0.1x5", "val_every": 10}, 40, id="ten evaluations"),
    pytest.param({"train": FALLING, "val": "2.1-0.03x40 0.95+0.01x58~0.02"}, 40, id="with noise"),
]


@pytest.mark.parametrize("series", SILENT)
def test_silent(series):
    assert told(play(rows(**series)), "overfit") == []


@pytest.mark.parametrize(("series", "best"), ALERTS)
def test_alerts_and_never_kills(series, best):
    case = play(rows(**series))
    assert told(case, "overfit")[-1] == ("overfit", "alert")
    assert only(case, "overfit")[-1].severity == "critical"
    assert abs(only(case, "overfit")[-1].first_row - best) <= 10
    assert case.kill is None


@pytest.mark.parametrize(
    ("accuracy", "loud"),
    [
        pytest.param([0.5 + 0.004 * i for i in range(100)], False, id="still improving: a note"),
        pytest.param(
            [0.5 + 0.004 * min(i, 40) - 0.001 * max(0, i - 40) for i in range(100)], True, id="falling as well"
        ),
    ],
)
def test_the_declared_metric_has_the_last_word(accuracy, loud):
    events = [
        row._replace(values={**row.values, "val_accuracy": value})
        for row, value in zip(rows(train=FALLING, val="2.1-0.03x40 0.95+0.01x58"), accuracy, strict=False)
    ]
    case = play(events, experiment(metric={"name": "val_accuracy", "direction": "max"}))
    assert only(case, "overfit")
    assert bool(told(case, "overfit")) is loud
