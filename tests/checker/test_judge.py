"""Patience, episodes and severities: what the judge makes of sightings."""

from __future__ import annotations

import pytest
from curves import noisy_descent, only, play, rows, told

from checker import judge
from checker.events import Unreadable
from checker.finding import Action, Severity
from checker.judge import Found, Hold, Recovered


@pytest.mark.parametrize(
    ("hold", "lasted", "so_far", "met"),
    [
        pytest.param(Hold(), 0, 1, True, id="at once"),
        pytest.param(Hold(5, 0.02), 4, 10, False, id="too few rows"),
        pytest.param(Hold(5, 0.02), 5, 10, True, id="enough rows"),
        pytest.param(Hold(5, 0.02), 5, 1000, False, id="too small a share"),
        pytest.param(Hold(5, 0.02), 20, 1000, True, id="enough of both"),
    ],
)
def test_hold(hold, lasted, so_far, met):
    assert hold.met(lasted, so_far) is met


def test_one_word_per_episode_and_severity():
    case = play(rows(train="2.0-0.01x20 " + "nan " * 50))
    assert told(case) == [("nonfinite", "kill")]


def test_suspicion_then_certainty():
    case = play(rows(train="2.0-0.01x20 inf inf inf inf inf"))
    assert [(str(f.severity), str(f.action)) for f in only(case, "nonfinite")] == [
        ("warning", "alert"),
        ("critical", "kill"),
    ]


def test_a_second_episode_is_reported_again():
    case = play(rows(train="2.0x20 inf inf inf 2.0x40 inf inf inf 2.0x5"))
    assert [f.episode for f in only(case, "nonfinite") if f.action is Action.KILL] == [0, 1]


def test_recovery_is_an_effect():
    case, effects = judge.Case.open(), []
    for row in rows(train="2.0-0.01x20 inf 1.8-0.01x40"):
        effects += judge.step(case, row)
    kinds = [type(effect) for effect in effects]
    assert kinds == [Found, Recovered]
    assert case.open_findings() == []


def test_an_id_names_run_rule_episode_and_severity():
    finding = only(play(row._replace(run_id="abc") for row in rows(train="2.0 nan")), "nonfinite")[0]
    assert finding.id == "abc/nonfinite/0/critical"


def test_unreadable_lines_are_counted():
    case = judge.Case.open()
    judge.step(case, Unreadable(3, "torn"))
    assert case.history.unreadable == 1


def test_severities_are_ordered():
    assert [severity.rank for severity in (Severity.INFO, Severity.WARNING, Severity.CRITICAL)] == [0, 1, 2]


def test_the_same_events_give_the_same_findings():
    events = rows(train=[*noisy_descent(200), *(0.7 + 0.1 * i for i in range(60))])
    assert play(events).findings == play(events).findings
