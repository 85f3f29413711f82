from __future__ import annotations

import pytest
from curves import noisy_descent, only, play, rows

SILENT = [
    pytest.param({"train": noisy_descent()}, id="healthy"),
    pytest.param({"train": "2.0*0.9x100"}, id="fast but steady"),
    pytest.param({"train": "2.0-0.01x99", "val": "1.6-0.009x99"}, id="dropout: validation somewhat lower"),
]


@pytest.mark.parametrize("series", SILENT)
def test_silent(series):
    assert only(play(rows(**series)), "suspicious_improvement") == []


@pytest.mark.parametrize(
    "series",
    [
        pytest.param({"train": "2.0x60~0.01 0.001x40"}, id="a sudden solution"),
        pytest.param({"train": "2.0x99~0.01", "val": "0.4x99~0.01"}, id="validation a fifth of training"),
    ],
)
def test_notes(series):
    found = only(play(rows(**series)), "suspicious_improvement")
    assert [str(f.action) for f in found] == ["none"]
