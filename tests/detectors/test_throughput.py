from __future__ import annotations

import pytest
from curves import noisy_descent, play, rows, told

SILENT = [
    pytest.param([1.0] * 300, id="steady"),
    pytest.param([20.0 if i % 25 == 0 else 1.0 for i in range(300)], id="pauses for evaluation"),
    pytest.param([3.0] * 20 + [1.0] * 280, id="slow at the start"),
    pytest.param([1.0] * 150 + [1.5] * 150, id="half as slow again"),
    pytest.param([0.001] * 150 + [0.01] * 150, id="milliseconds"),
]


@pytest.mark.parametrize("seconds", SILENT)
def test_silent(seconds):
    assert told(play(rows(train=noisy_descent(), seconds=seconds)), "throughput") == []


@pytest.mark.parametrize(("stride", "expected"), [(1, []), (50, [("throughput", "alert")])])
def test_the_time_lost_is_counted_in_steps(stride, expected):
    """Blocks hold seconds per step: 0.02 s and then 0.08 s, over 150 rows or over 7,500 steps."""
    seconds = [0.02 * stride] * 150 + [0.08 * stride] * 150
    events = [row._replace(step=stride * row.step) for row in rows(train=noisy_descent(), seconds=seconds)]
    assert told(play(events), "throughput") == expected


def test_alerts_when_steps_take_thrice_as_long():
    case = play(rows(train=noisy_descent(), seconds=[1.0] * 150 + [3.0] * 150))
    assert told(case, "throughput") == [("throughput", "alert")]
