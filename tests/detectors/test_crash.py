from __future__ import annotations

import pytest
from curves import play, rows, tick, told

from checker.events import Life

ROWS = rows(train="2.0-0.01x20")
NOW = ROWS[-1].at

SILENT = [
    pytest.param({"life": Life.ALIVE}, id="alive"),
    pytest.param({"life": Life.UNKNOWN}, id="unknown is not dead"),
    pytest.param({"life": Life.GONE, "gone_since": NOW + 99}, id="gone a moment ago"),
    pytest.param({"life": Life.GONE, "gone_since": NOW, "state": "completed"}, id="completed"),
    pytest.param({"life": Life.GONE, "gone_since": NOW, "state": "killed"}, id="killed"),
    pytest.param({"life": Life.STOPPED}, id="suspended"),
]


@pytest.mark.parametrize("fields", SILENT)
def test_silent(fields):
    assert told(play([*ROWS, tick(NOW + 100, **fields)]), "crash") == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"life": Life.GONE, "gone_since": NOW + 50}, id="gone while running"),
        pytest.param({"state": "failed", "error": "ValueError: no"}, id="ended with an error"),
    ],
)
def test_alerts(fields):
    assert told(play([*ROWS, tick(NOW + 100, **fields)])) == [("crash", "alert")]
