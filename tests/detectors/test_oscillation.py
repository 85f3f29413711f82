from __future__ import annotations

import pytest
from curves import noisy_descent, play, rows, told

SWINGS = [1.0 + (0.9 if i % 2 else -0.6) for i in range(80)]

SILENT = [
    pytest.param(noisy_descent(), id="healthy"),
    pytest.param([2.0 + (0.5 if i % 2 else -0.5) for i in range(300)], id="always swung"),
    pytest.param([*noisy_descent(200), 5.0, 0.6, 4.0, *noisy_descent(60, 0.62, 0.6)], id="three spikes"),
]


@pytest.mark.parametrize("train", SILENT)
def test_silent(train):
    assert told(play(rows(train=train)), "oscillation") == []


def test_alerts_when_swings_grow():
    case = play(rows(train=[*noisy_descent(120, 2.0, 0.9, 0.01), *SWINGS]))
    assert told(case, "oscillation") == [("oscillation", "alert")]
