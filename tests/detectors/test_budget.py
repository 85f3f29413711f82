from __future__ import annotations

import pytest
from curves import experiment, play, rows, tick, told

ROWS = rows(train="2.0-0.01x60", seconds=1.0)
END = ROWS[-1].at


@pytest.mark.parametrize(
    ("budget", "fields"),
    [
        pytest.param({}, {}, id="none declared"),
        pytest.param({"wall_minutes": 2.0}, {}, id="half used"),
        pytest.param({"steps": 60}, {}, id="exactly used"),
        pytest.param({"wall_minutes": 0.5}, {"state": "completed"}, id="over, but finished"),
    ],
)
def test_silent(budget, fields):
    assert told(play([*ROWS, tick(END, **fields)], experiment(budget=budget))) == []


@pytest.mark.parametrize("budget", [{"wall_minutes": 0.5}, {"steps": 30}], ids=["minutes", "steps"])
def test_kills(budget):
    assert play([*ROWS, tick(END, step=60)], experiment(budget=budget)).kill.rule == "budget"
