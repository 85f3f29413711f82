from __future__ import annotations

import pytest
from curves import noisy_descent, play, rows, tick, told

from checker.events import Life, Rank

ROWS = rows(train=noisy_descent(100), seconds=0.5)
LAST = ROWS[-1].at


def look(after, *, seen=(), events=ROWS, **fields):
    at = events[-1].at + after
    alive = {"life": Life.ALIVE, "heartbeat_at": at - 0.5, "busy": 0.0, "phase": "train"}
    return play([*events, *seen, tick(at, **{**alive, **fields})])


SILENT = [
    pytest.param(5, {}, id="five seconds"),
    pytest.param(14, {}, id="under thirty medians"),
    pytest.param(300, {"phase": "evaluate"}, id="five minutes of a first evaluation"),
    pytest.param(300, {"phase": "checkpoint"}, id="five minutes of a first checkpoint"),
    pytest.param(3600, {"state": "completed"}, id="finished"),
    pytest.param(3600, {"life": Life.GONE}, id="gone is not stalled"),
    pytest.param(3610, {"excused": 3600.0}, id="the machine slept for an hour"),
]

ALERTS = [
    pytest.param(30, {}, id="half a minute of half-second steps"),
    pytest.param(3600, {"life": Life.STOPPED}, id="suspended"),
    pytest.param(3600, {"life": Life.UNKNOWN, "heartbeat_at": None, "busy": None}, id="on another machine"),
    pytest.param(900, {"busy": 0.9}, id="still computing"),
    pytest.param(3630, {"excused": 3600.0}, id="not for long enough since the machine woke"),
    pytest.param(900, {"heartbeat_at": 0.0}, id="no heartbeat: the machine slept"),
]


KILLS = [
    pytest.param(190, {}, id="idle"),
    pytest.param(3600, {"busy": 0.9}, id="busy for an hour"),
    pytest.param(3790, {"excused": 3600.0}, id="hung before or after the machine slept"),
]

BARE = {"state": None, "life": Life.UNKNOWN, "heartbeat_at": None, "busy": None, "phase": None}
BARE_LOGS = {
    "no length declared": ({}, "step", []),
    "half way": ({"total_steps": 200}, "step", [("stall", "alert")]),
    "the last step": ({"total_steps": 99}, "step", []),
    "stopped early, and said so": ({"total_steps": 200}, "training_end", []),
}


@pytest.mark.parametrize(("fields", "last", "expected"), BARE_LOGS.values(), ids=BARE_LOGS.keys())
def test_lines_alone(fields, last, expected):
    events = [row._replace(**fields) for row in ROWS]
    events[-1] = events[-1]._replace(event=last)
    assert told(look(600, events=events, **BARE)) == expected


@pytest.mark.parametrize(("after", "fields"), SILENT)
def test_silent(after, fields):
    assert told(look(after, **fields)) == []


@pytest.mark.parametrize(("after", "fields"), ALERTS)
def test_alerts(after, fields):
    assert told(look(after, **fields)) == [("stall", "alert")]


@pytest.mark.parametrize(("after", "fields"), KILLS)
def test_kills(after, fields):
    assert look(after, **fields).kill.rule == "stall"


def test_evaluation_pauses_twenty_times_a_step_are_normal():
    events = rows(train=noisy_descent(100), seconds=[10.0 if i % 20 == 0 and i else 0.5 for i in range(100)])
    assert told(look(14, events=events)) == []


def test_a_second_stall_is_a_second_episode():
    again = [row._replace(index=100 + i, at=LAST + 40 + i) for i, row in enumerate(rows(train="1.0x5"))]
    case = play([*ROWS, tick(LAST + 30, life=Life.ALIVE, phase="train"), *again, tick(LAST + 4000, phase="train")])
    assert [finding.episode for finding in case.findings] == [0, 1]


def test_a_tick_that_changes_nothing_leaves_no_trace():
    quiet = [tick(LAST + i / 10, phase="train") for i in range(50)]
    assert look(70, seen=quiet).findings == look(70).findings


# ------------------------------------------------------------------------------------------------ a distributed run


def one(number=1, moved=LAST, **fields):
    """A rank that is well and waits, unless told otherwise."""
    known = {"state": "running", "step": 99, "phase": "train", "life": Life.ALIVE, "pid": 7, "host": "here"}
    return Rank(rank=number, progress_at=moved, **{**known, "beat_at": LAST, **fields})


def gone(number=1, at=LAST, **fields):
    return one(number, life=Life.GONE, gone_since=at, **fields)


def waiting(after, *ranks, **fields):
    return look(after, **{"step": 99, "progress_at": LAST, "ranks": ranks, **fields})


RANKS_SILENT = {
    "healthy": (5, [one(), one(2)], {}),
    "one is gone, a moment ago": (9, [gone()], {}),
    "one is gone, just seen": (14, [gone(at=LAST + 5)], {}),
    "one has finished": (14, [gone(state="completed")], {}),
    "one was stopped": (14, [gone(state="killed")], {}),
    "one cannot be seen": (14, [one(life=Life.UNKNOWN)], {}),
    "one on another machine says that it failed": (14, [one(state="failed", life=Life.UNKNOWN)], {}),
    "rank 0 is gone as well": (300, [gone()], {"life": Life.GONE}),
    "the machine slept": (3610, [gone(at=LAST + 3605)], {"excused": 3600.0}),
    "over": (3600, [gone()], {"state": "completed"}),
}

RANKS_ALERT = {
    "gone": (12, [gone()], {}),
    "gone, and not for a minute yet": (300, [gone(at=LAST + 250)], {"busy": 1.0}),
    "gone, while rank 0 is suspended": (3600, [gone()], {"life": Life.STOPPED}),
    "gone, while rank 0 is elsewhere": (3600, [gone()], {"life": Life.UNKNOWN, "busy": None}),
    "gone, while rank 0 has no heartbeat": (3600, [gone()], {"heartbeat_at": LAST}),
    "gone, while another rank moves": (3600, [gone(), one(2, moved=LAST + 3595)], {}),
    "gone, in a first evaluation": (300, [gone()], {"phase": "evaluate"}),
    "gone, while rank 0 fits a model": (7200, [gone()], {"phase": "fit", "busy": 1.0}),
    "suspended": (3600, [one(life=Life.STOPPED)], {}),
    "silent, while another rank moves": (300, [one(moved=LAST + 295)], {}),
    "failed elsewhere": (30, [one(state="failed", life=Life.UNKNOWN)], {}),
}

RANKS_KILL = {
    "gone for a minute": (62, [gone(at=LAST + 1)], {}),
    "gone, while rank 0 spins": (62, [gone(at=LAST + 1)], {"busy": 1.0}),
    "failed and gone": (62, [gone(at=LAST + 1, state="failed")], {"busy": 1.0}),
    "gone, in a first evaluation of ten minutes": (601, [gone()], {"phase": "evaluate"}),
    "all idle": (190, [one()], {}),
}


@pytest.mark.parametrize(("after", "ranks", "fields"), RANKS_SILENT.values(), ids=RANKS_SILENT.keys())
def test_ranks_silent(after, ranks, fields):
    assert told(waiting(after, *ranks, **fields), "stall") == []


@pytest.mark.parametrize(("after", "ranks", "fields"), RANKS_ALERT.values(), ids=RANKS_ALERT.keys())
def test_ranks_alert(after, ranks, fields):
    assert told(waiting(after, *ranks, **fields)) == [("stall", "alert")]


@pytest.mark.parametrize(("after", "ranks", "fields"), RANKS_KILL.values(), ids=RANKS_KILL.keys())
def test_ranks_kill(after, ranks, fields):
    assert waiting(after, *ranks, **fields).kill.rule == "stall"


NAMED = {
    "gone": ([gone()], "rank 1 (pid 7 on here) is gone since step 99 while rank 0 waits: no new step"),
    "gone before its first step": ([gone(step=None)], "rank 1 (pid 7 on here) is gone before its first step while"),
    "failed": ([gone(state="failed", error="OSError: no\nroom")], "failed at step 99 (OSError: no room) while rank 0"),
    "several": ([gone(), gone(2), gone(3)], "rank 1 (pid 7 on here) is gone since step 99 while rank 0 waits (so are"),
    "gone before suspended": ([gone(2), one(life=Life.STOPPED)], "rank 2 (pid 7 on here) is gone"),
    "suspended": ([one(life=Life.STOPPED)], "is suspended since step 99 and the others wait for it"),
    "silent elsewhere": ([one(life=Life.UNKNOWN)], "was last heard of 190 s ago since step 99; the others wait"),
    "a clock that is behind": ([one(beat_at=LAST + 160)], "no new step for 190 s"),
    "behind": (
        [one(beat_at=LAST + 189, step=98, phase="data"), one(2, beat_at=LAST + 189)],
        "rank 1 (pid 7 on here) last moved at step 98, 190 s ago, in phase data; the others wait for it: no new step",
    ),
    "elsewhere": ([one(2, beat_at=LAST + 189, phase="data")], "rank 2 (pid 7 on here) last moved at step 99"),
    "finished early": ([gone(state="completed")], "has ended (completed) at step 99 and takes part in nothing"),
    "rank 0 is behind": ([one(beat_at=LAST + 189, step=100)], "rank 0 is at step 99; the others are further"),
    "alike": ([one(beat_at=LAST + 189)], "no new step for 190 s"),
    "unknown": ([one(beat_at=LAST + 189, step=None, phase=None, life=Life.UNKNOWN)], "no new step for 190 s"),
}


@pytest.mark.parametrize(("ranks", "text"), NAMED.values(), ids=NAMED.keys())
def test_the_rank_that_the_others_wait_for_is_named(ranks, text):
    assert text in waiting(190, *ranks).findings[-1].summary


def test_rank_0_is_named_when_it_does_something_else():
    case = waiting(1000, one(beat_at=LAST + 999), one(2, beat_at=LAST + 999), phase="evaluate")
    assert "rank 0 is in phase evaluate; the others are further and wait for it" in case.findings[-1].summary


def test_the_numbers_of_the_rank_are_evidence():
    evidence = waiting(62, gone(at=LAST + 1)).findings[-1].evidence
    assert {name: evidence[name] for name in evidence if name.startswith("rank")} == {
        "rank": 1,
        "rank_step": 99,
        "rank_process": "gone",
        "rank_silent_seconds": 62.0,
        "rank_phase": "train",
        "rank_pid": 7,
    }


def test_an_error_of_any_length_is_one_short_line():
    assert len(waiting(62, gone(state="failed", error="x\n" * 10_000)).findings[-1].summary) < 300
