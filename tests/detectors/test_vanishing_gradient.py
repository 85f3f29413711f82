from __future__ import annotations

import pytest
from curves import noisy_descent, play, rows, told

SILENT = [
    pytest.param({"train": noisy_descent(), "grad": "1.0x300~0.1"}, id="healthy"),
    pytest.param({"train": "2.0*0.9x200", "grad": "1.0*0.85x200"}, id="solved"),
    pytest.param({"train": "2.3x100~0.01", "grad": "0.5x100~0.1"}, id="stuck for another reason"),
]

ALERTS = [
    pytest.param({"train": "2.3x60~0.001", "grad": "0.0x60"}, id="zero from the start"),
    pytest.param({"train": "2.3x100~0.001", "grad": "1.0x5 1e-6x94"}, id="a millionth of what it was"),
    pytest.param({"train": "2.3x100~0.001", "grad": "1e-9x100"}, id="below any use"),
]


@pytest.mark.parametrize("series", SILENT)
def test_silent(series):
    assert told(play(rows(**series)), "vanishing_gradient") == []


@pytest.mark.parametrize("series", ALERTS)
def test_alerts(series):
    assert told(play(rows(**series)), "vanishing_gradient") == [("vanishing_gradient", "alert")]
