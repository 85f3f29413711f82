from __future__ import annotations

import pytest
from curves import play, rows, told

INF, NAN = "inf ", "nan "

SILENT = [
    pytest.param({"train": "2.0-0.01x100~0.01", "grad": INF * 20 + "1.0x80"}, id="scaler searching"),
    pytest.param({"train": "1.0*0.8x80 0.0x30"}, id="a loss that approaches 0"),
    pytest.param({"train": "2.3 2.3 2.2 2.2 2.2 2.1 2.1 2.0 2.0 2.0 1.9x30"}, id="printed with one digit"),
    pytest.param({"train": "0.73 0.72 0.71 0.7 0.69x60"}, id="printed with two digits, slow to begin"),
    pytest.param({"train": "2.0-0.05x38 0.1x60"}, id="solved: frozen far below the start"),
    pytest.param({"train": "2.0-0.01x100~0.01", "grad": "1.0x50 nan nan 1.0x50"}, id="two NaN gradients"),
]

KILLS = [
    pytest.param({"train": "2.0-0.01x20 0.0x30", "grad": "1.0x20 " + NAN * 30}, 23, id="NaN filtered to 0"),
    pytest.param({"train": "2.0-0.01x20 1.8x30", "grad": "1.0x20 " + NAN * 30}, 23, id="NaN filtered to the mean"),
    pytest.param({"train": "2.0-0.001x60~0.01", "grad": "1.0x20 " + NAN * 40}, 30, id="NaN gradients for ten rows"),
    pytest.param({"train": "2.0-0.01x20 0.0x30"}, 40, id="a jump onto exactly 0"),
    pytest.param({"train": "2.3~0.1 2.4 2.35 2.31 2.302585x40"}, 24, id="frozen at chance"),
]


@pytest.mark.parametrize("series", SILENT)
def test_silent(series):
    assert told(play(rows(**series)), "hidden_nan") == []


@pytest.mark.parametrize(("series", "row"), KILLS)
def test_kills(series, row):
    case = play(rows(**series))
    assert (case.kill.rule, case.kill.row) == ("hidden_nan", row)


def test_endless_overflow_is_reported():
    case = play(rows(train="2.0~0.01 2.01 2.0x60~0.01", grad="1.0 " + INF * 60))
    assert told(case, "hidden_nan") == [("hidden_nan", "alert")]
