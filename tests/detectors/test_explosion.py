from __future__ import annotations

import pytest
from curves import noisy_descent, play, rows, told

SILENT = [
    pytest.param({"train": noisy_descent()}, id="healthy"),
    pytest.param({"train": "2.0-0.01x100 500.0 900.0 1.0x100"}, id="two bad batches"),
    pytest.param({"train": "12.0+0.28x18 17.0-0.1x100"}, id="12 to 17 in warm-up"),
    pytest.param({"train": "0.001x20~0.0005"}, id="noise around nothing"),
    pytest.param({"train": "2.0-0.01x50", "val": "2.0+0.2x49"}, id="confident overfitting"),
    pytest.param({"train": "-1.0-0.1x100"}, id="negative"),
]

KILLS = [
    pytest.param({"train": "2.0-0.01x100 5.0*1.5x30"}, 120, id="grows without bound"),
    pytest.param({"train": "2.0-0.01x100 1e6x20"}, 112, id="jumps and stays"),
    pytest.param({"train": "2.3 2.4 9.0 40.0 200.0 1e3 1e4 1e4x10"}, 12, id="from the first steps"),
    pytest.param({"train": "2.0-0.01x60", "val": "2.0-0.01x30 1e4x29"}, 54, id="in validation only"),
    pytest.param({"train": "-5.0-0.05x60~0.01 300.0x20"}, 72, id="from negative"),
]


@pytest.mark.parametrize("series", SILENT)
def test_silent(series):
    assert told(play(rows(**series)), "explosion") == []


@pytest.mark.parametrize(("series", "latest"), KILLS)
def test_kills(series, latest):
    kill = play(rows(**series)).kill
    assert kill.rule == "explosion"
    assert kill.row <= latest
