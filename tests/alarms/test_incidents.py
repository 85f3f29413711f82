"""What is worth an alarm: one incident per run and moment, and nothing twice."""

import pytest
from feeds import DOOMED, act, alert, end, numbered, trouble

from checker.alarms.incidents import Incidents
from checker.alarms.policy import Notify


def opened(events, told=lambda *_: False, policy=None):
    """The incidents of a feed, each as its run, what it is about, and whether it is grave."""
    found = Incidents(told, policy or Notify())
    for line in numbered(events):
        found.take(line, 0.0)
    return found.open


CRITICAL = Notify(min_severity="critical")
DRIFT = alert("a", "drift", "warning")

TABLE = {
    "nothing": ([], None, {}),
    "a beginning": ([{"kind": "begin", "summary": "x"}], None, {}),
    "a good end": ([end("a", "completed")], None, {}),
    "information": ([{"run": "a", "kind": "note", "severity": "info", "summary": "x"}], None, {}),
    "a recovery alone": ([{"run": "a", "kind": "recovered", "severity": "info", "rule": "drift"}], None, {}),
    "a doomed run is one": (DOOMED, None, {"exp-001": ("alert", True)}),
    "also without warnings": (DOOMED, CRITICAL, {"exp-001": ("alert", True)}),
    "a warning": ([DRIFT], None, {"a": ("alert", False)}),
    "a warning that nobody wants": ([DRIFT], CRITICAL, {}),
    "two rules are one": ([DRIFT, alert("a", "plateau", "warning")], None, {"a": ("alert", False)}),
    "two runs are two": ([DRIFT, alert("b")], None, {"a": ("alert", False), "b": ("alert", True)}),
    "a failure": ([end("a", "failed")], CRITICAL, {"a": ("end", True)}),
    "a crash": ([alert("a", "crash"), end("a", "crashed")], None, {"a": ("alert", True)}),
    "a person's kill": ([act("a", "requested", None), end("a", "killed")], None, {"a": ("end", False)}),
    "a person's kill that nobody wants": ([act("a", "requested", None), end("a", "killed")], CRITICAL, {}),
    "aborted": ([end("a", "aborted")], None, {"a": ("end", False)}),
    "it does not stop": ([act("a", "unanswered")], None, {"a": ("act", True)}),
    "it cannot be judged": ([trouble("a")], None, {"a": ("trouble", True)}),
    "a severity of tomorrow": ([alert("a", severity="dire")], None, {"a": ("alert", False)}),
    "a kind of tomorrow": ([{"run": "a", "kind": "weather", "severity": "critical"}], None, {}),
}  # fmt: skip


@pytest.mark.parametrize(("events", "policy", "expected"), TABLE.values(), ids=TABLE.keys())
def test_what_is_worth_an_alarm(events, policy, expected):
    found = opened(events, policy=policy)
    assert {run: (incident.main["kind"], incident.grave) for run, incident in found.items()} == expected


def test_an_incident_knows_what_followed():
    incident = opened(DOOMED)["exp-001"]
    assert (incident.first, incident.last) == (1001, 1006)
    assert incident.main["summary"] == "train_loss exploded to 99.06"
    assert (incident.act["act"], incident.end["state"], incident.rules) == ("stopped", "killed", {"explosion"})
    assert not incident.forced
    assert opened([alert("a"), act("a", "requested"), act("a", "sigkill"), act("a", "stopped")])["a"].forced


def test_what_was_told_is_not_told_again_and_still_explains_the_end():
    assert opened(DOOMED, told=lambda _, seq: seq <= 1003) == {}
    crash = [alert("a", "crash"), end("a", "crashed")]
    assert opened(crash, told=lambda _, seq: seq <= 1001) == {}


def test_the_next_attempt_is_another_story():
    found = opened([*DOOMED, act("exp-001", "requested", None), end("exp-001", "killed")], lambda _, seq: seq <= 1006)
    assert found["exp-001"].main["kind"] == "end"


def test_a_warning_that_becomes_certain_later_is_told_once_more():
    found = opened(DOOMED, told=lambda _, seq: seq <= 1001)
    assert (found["exp-001"].first, found["exp-001"].grave) == (1002, True)
