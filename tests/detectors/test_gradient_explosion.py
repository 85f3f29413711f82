from __future__ import annotations

import pytest
from curves import noisy_descent, play, rows, told

SILENT = [
    pytest.param({"train": noisy_descent(), "grad": "1.0x300~0.1"}, id="healthy"),
    pytest.param({"train": noisy_descent(), "grad": "1.0x100 1000.0 1.0x100 5000.0 300.0 1.0x90"}, id="spikes"),
    pytest.param({"train": noisy_descent(), "grad": "0.1*1.01x299"}, id="grows twentyfold while the loss falls"),
    pytest.param({"train": "2.0*0.9x299", "grad": "1.0*0.9x150 1e-4x148"}, id="a solved problem"),
    pytest.param({"train": noisy_descent(), "grad": "50.0*0.97x100 2.5x200~0.1"}, id="large at the start"),
]


@pytest.mark.parametrize("series", SILENT)
def test_silent(series):
    assert told(play(rows(**series)), "gradient_explosion") == []


def test_kills_when_the_loss_confirms():
    kill = play(rows(train="2.0-0.01x100~0.01 1.0+0.1x40~0.01", grad="1.0x100~0.1 2.0*1.5x40")).kill
    assert kill.rule == "gradient_explosion"
    assert 100 < kill.row < 130
    assert kill.evidence["ratio"] >= 10


def test_alerts_while_the_loss_has_lost_little():
    case = play(rows(train="2.0-0.01x100~0.005 1.06x40~0.005", grad="1.0x100~0.1 60.0x40"))
    assert told(case, "gradient_explosion") == [("gradient_explosion", "alert")]
