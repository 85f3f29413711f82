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


def counted(name, per_row):
    """The rows, each with a count of the tokens so far."""
    return [row._replace(values={**row.values, name: float(per_row * (row.index + 1))}) for row in ROWS]


@pytest.mark.parametrize(
    ("name", "budget", "killed"),
    [
        pytest.param("tokens", 6100, False, id="exactly used"),
        pytest.param("lr_tokens_odd", 10, False, id="no count of tokens"),
        pytest.param("num_tokens", 10, False, id="may be the size of the data"),
        pytest.param("tokens", 6099, True, id="over"),
        pytest.param("num_input_tokens_seen", 100, True, id="as Hugging Face calls it"),
    ],
)
def test_tokens(name, budget, killed):
    case = play([*counted(name, 100), tick(END)], experiment(budget={"tokens": budget}))
    assert (case.kill is not None and case.kill.rule == "budget") == killed
