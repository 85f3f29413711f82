from __future__ import annotations

import pytest
from curves import play, rows, tick, told

from checker.events import Life, Rank

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


def one(number=1, **fields):
    return Rank(rank=number, **{"pid": 7, "host": "here", "state": "running", "step": 18, "life": Life.ALIVE, **fields})


FAILED = {"state": "failed", "error": "RuntimeError: connection closed", "heartbeat_at": NOW + 60}
GONE = {"life": Life.GONE, "gone_since": NOW + 60, "heartbeat_at": NOW + 60}

FIRST = {
    "failed before rank 0 failed": (FAILED, one(state="failed", error="OSError: no", beat_at=NOW + 59), True),
    "failed before rank 0 was gone": (GONE, one(state="failed", error="OSError: no", beat_at=NOW + 59), True),
    "failed because rank 0 was gone": (GONE, one(state="failed", error="EOFError", beat_at=NOW + 61), False),
    "failed before, by another clock": (GONE, one(state="failed", beat_at=NOW + 59, life=Life.UNKNOWN), False),
    "failed long before, by another clock": (GONE, one(state="failed", beat_at=NOW + 49, life=Life.UNKNOWN), True),
    "gone long before": (GONE, one(life=Life.GONE, gone_since=NOW + 50), True),
    "gone about then": (GONE, one(life=Life.GONE, gone_since=NOW + 59), False),
    "gone about when rank 0 failed": (FAILED, one(life=Life.GONE, gone_since=NOW + 99), False),
}


@pytest.mark.parametrize(("fields", "rank", "first"), FIRST.values(), ids=FIRST.keys())
def test_a_rank_that_was_lost_before_rank_0_is_named_and_one_that_may_have_been_is_mentioned(fields, rank, first):
    (finding,) = play([*ROWS, tick(NOW + 100, ranks=(rank,), **fields)]).findings
    assert finding.summary.startswith("rank 1 (pid 7 on here) ") is first
    assert any("rank 1 (pid 7 on here)" in line for line in finding.against) is not first


@pytest.mark.parametrize(
    "rank", [one(), one(state="completed", life=Life.GONE), one(life=Life.UNKNOWN)], ids=["alive", "done", "unknown"]
)
def test_ranks_that_are_well_are_not_mentioned(rank):
    crash = [*ROWS, tick(NOW + 100, **GONE)]
    assert play([*ROWS, tick(NOW + 100, ranks=(rank,), **GONE)]).findings == play(crash).findings


def test_a_rank_that_is_gone_while_rank_0_lives_is_no_crash_of_the_run():
    alive = tick(NOW + 100, life=Life.ALIVE, ranks=(one(life=Life.GONE, gone_since=NOW),))
    assert told(play([*ROWS, alive]), "crash") == []


@pytest.mark.parametrize(("heard", "named"), [(59.5, True), (60.5, False)], ids=["before", "after"])
def test_a_rank_that_fell_silent_before_rank_0_failed_is_named_with_it(heard, named):
    silent = one(life=Life.GONE, gone_since=NOW + 99, beat_at=NOW + heard)
    (finding,) = play([*ROWS, tick(NOW + 100, ranks=(silent,), **FAILED)]).findings
    text = "the run failed, and rank 1 (pid 7 on here) is gone since step 18: RuntimeError: connection closed"
    assert (text in finding.summary) is named
