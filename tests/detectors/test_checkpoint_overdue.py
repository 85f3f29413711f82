from __future__ import annotations

import pytest
from curves import play, rows, tick, told

SAVED = [(i, {"event": "checkpoint_saved"}) for i in range(20, 100, 20)]
ROWS = rows(train="2.0-0.001x99", seconds=30.0, events=SAVED)
END = ROWS[-1].at


@pytest.mark.parametrize(
    ("events", "after", "fields"),
    [
        pytest.param(ROWS, 0, {}, id="in time"),
        pytest.param(ROWS, 900, {}, id="late, within three intervals"),
        pytest.param(ROWS, 9000, {"state": "completed"}, id="finished"),
        pytest.param(rows(train="2.0x9"), 1000, {"started_at": END - 1000}, id="never saved, a short run"),
    ],
)
def test_silent(events, after, fields):
    assert told(play([*events, tick(END + after, **fields)]), "checkpoint_overdue") == []


@pytest.mark.parametrize(
    ("events", "after", "fields"),
    [
        pytest.param(ROWS, 3000, {}, id="five intervals"),
        pytest.param(rows(train="2.0x9"), 4000, {"started_at": END}, id="never saved in an hour"),
    ],
)
def test_alerts(events, after, fields):
    case = play([*events, tick(END + after, **fields)])
    assert told(case, "checkpoint_overdue") == [("checkpoint_overdue", "alert")]
