from __future__ import annotations

import pytest
from curves import noisy_descent, play, rows, told

SILENT = [
    pytest.param({"train": noisy_descent()}, id="healthy"),
    pytest.param({"train": "2.0-0.01x100 1.0x200~0.02"}, id="flat"),
    pytest.param({"train": "2.0-0.01x100~0.02 1.2-0.001x200~0.02"}, id="a step up that is worked off"),
    pytest.param({"train": "2.0x300~0.5"}, id="noise"),
]


@pytest.mark.parametrize("series", SILENT)
def test_silent(series):
    assert told(play(rows(**series)), "drift") == []


def test_alerts_and_never_kills():
    case = play(rows(train="2.0-0.014x100~0.02 0.6+0.0025x160~0.02"))
    assert told(case, "drift") == [("drift", "alert")]
    assert case.kill is None
