from __future__ import annotations

import pytest
from curves import experiment, noisy_descent, play, rows, told

SILENT = [
    pytest.param({"train": noisy_descent()}, {}, id="healthy"),
    pytest.param({"train": "2.0-0.02x70 0.6x400~0.01"}, {}, id="flat after learning"),
    pytest.param({"train": "2.3x30~0.01 2.3-0.02x80"}, {}, id="a slow start"),
    pytest.param({"train": "2.3x60~0.01"}, {"total_steps": 5000}, id="one per cent of the plan"),
    pytest.param({"train": "2.3x60~0.01 2.3-0.01x100"}, {"schedule": {"warmup_steps": 40}}, id="warm-up"),
]


@pytest.mark.parametrize(("series", "declared"), SILENT)
def test_silent(series, declared):
    assert told(play(rows(**series), experiment(**declared)), "plateau") == []


@pytest.mark.parametrize(
    ("series", "declared"),
    [
        pytest.param({"train": "2.3026x250~0.005"}, {}, id="at chance"),
        pytest.param({"train": "2.3026x100~0.005"}, {"total_steps": 400}, id="a quarter of the plan"),
        pytest.param({"train": "0.6931x40~0.0005", "epochs": True}, {}, id="forty epochs"),
    ],
)
def test_alerts(series, declared):
    assert told(play(rows(**series), experiment(**declared)), "plateau") == [("plateau", "alert")]
