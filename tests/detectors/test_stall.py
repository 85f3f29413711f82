from __future__ import annotations

import pytest
from curves import noisy_descent, play, rows, tick, told

from checker.events import Life

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
