"""What people read."""

from pathlib import Path

import pytest
from feeds import DOOMED, act, alert, end, numbered, trouble

from checker.alarms.incidents import Incidents
from checker.alarms.message import Place, about_checker, harmless, many, one, trial
from checker.finding import Severity

PLACE = Place(Path("/data/my runs"), "gpu-7")


def incidents(*events):
    found = Incidents(lambda *_: False)
    for line in numbered(events):
        found.take(line, 0.0)
    return list(found.open.values())


def message(*events):
    (incident,) = incidents(*events)
    return one(incident, PLACE)


def test_three_lines_that_matter_and_the_path():
    told = message(*DOOMED)
    assert told.title == "exp-001: explosion (critical), killed"
    assert told.body.splitlines() == [
        "train_loss exploded to 99.06 (step 160)",
        "it was asked to stop and did; killed at step 161; next.md beside the report says what to try",
        "gpu-7:/data/my runs/exp-001/diagnosis.md",
        "2026-11-21 17:03:55 UTC, event 00000000000003e9",
    ]
    assert (told.severity, told.id) == (Severity.CRITICAL, "00000000000003e9")


DONE = {
    "it goes on": ([alert("a", "drift", "warning")], "a: drift (warning), goes on",
                   "it goes on; to stop it: checker kill '/data/my runs/a' --reason TEXT"),
    "asked": ([alert("a"), act("a", "requested")], "a: explosion (critical), asked to stop",
              "it was asked to stop; it saves itself"),
    "forced": ([alert("a"), act("a", "requested"), act("a", "sigterm")], "a: explosion (critical), asked to stop",
               "it did not answer in time: forced to stop"),
    "forced and over": ([alert("a"), act("a", "sigkill"), end("a", "killed", None), act("a", "stopped")],
                        "a: explosion (critical), killed",
                        "it did not answer and was forced to stop; killed; next.md beside the report says what to try"),
    "not stopped": ([alert("a"), act("a", "unanswered")], "a: explosion (critical), does not stop",
                    "unanswered: x; it still runs: see to it"),
    "not stopped, later": ([act("a", "cannot")], "a: does not stop", "it still runs: see to it"),
    "observed": ([alert("a"), act("a", "observed")], "a: explosion (critical), observed only",
                 "observed only: it was not asked to stop, and goes on"),
    "it recovered": ([alert("a"), act("a", "recovered-before-act")], "a: explosion (critical), goes on",
                     "it recovered before it was asked to stop, and goes on"),
    "a crash": ([alert("a", "crash"), end("a", "crashed")], "a: crash (critical), crashed",
                "it is over (crashed at step 161); the report says why, and next.md beside it what to try"),
    "a crash alone": ([alert("a", "crash")], "a: crash (critical)",
                      "nothing is left to be stopped; next.md beside the report says what to try"),
    "a failure": ([end("a", "failed")], "a: failed",
                  "it is over; the report says why, and next.md beside it what to try"),
    "trouble": ([trouble("a")], "a: cannot be judged",
                "it is not judged meanwhile; the checker tries again every few minutes"),
}  # fmt: skip


@pytest.mark.parametrize(("events", "title", "line"), DONE.values(), ids=DONE.keys())
def test_what_was_done_or_is_to_be_done(events, title, line):
    told = message(*events)
    assert told.title == title
    assert told.body.splitlines()[1] == line


def test_the_folder_itself_may_be_the_run():
    told = message(alert("."))
    assert told.title.startswith("my runs: explosion")
    assert "gpu-7:/data/my runs/diagnosis.md" in told.body.splitlines()


def test_other_rules_are_named():
    assert message(*DOOMED, alert("exp-001", "drift", "warning")).body.startswith(
        "train_loss exploded to 99.06 (step 160); also drift\n"
    )


HOSTILE = {
    "a call to everyone": ("@everyone look", "(at)everyone look"),
    "a call in Slack": ("<!channel> <@U123>", "\u2039!channel\u203a \u2039(at)U123\u203a"),
    "escape sequences": ("\x1b[31mred\x1b[0m \x07bell", "red bell"),
    "lines": ("one\ntwo\r\nthree", "one two three"),
    "a secret": ("token sk-abcdefghijklmnopqrstuvwx", "token [SECRET]"),
    "turned around": ("safe\u202egnp.exe", "safegnp.exe"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE.keys())
def test_text_of_a_run_neither_calls_people_nor_steers_anything(text, shown):
    assert harmless(text, 200) == shown
    told = message(alert(f"a{text}", summary=text))
    assert shown in told.body
    for raw in ("@", "<", "\x1b", "sk-abc", "\u202e"):
        assert raw not in told.title + told.body
    assert len(told.body.splitlines()) == 4


def test_a_message_has_a_bounded_length():
    told = message(alert("r" * 5000, summary="s" * 5000, rule="u" * 5000))
    assert len(told.title) < 200
    assert len(told.body) < 4000


def test_many_are_counted_by_kind_and_the_gravest_named_first():
    burst = [alert(f"w-{number:03}", "drift", "warning") for number in range(40)]
    burst += [
        event for number in range(12) for event in (alert(f"c-{number:03}", "crash"), end(f"c-{number:03}", "crashed"))
    ]
    told = many(incidents(*burst), PLACE)
    assert told.title == "52 runs need a look, 12 critical"
    assert told.body.splitlines() == [
        "40 x drift (warning), goes on, 12 x crash (critical), crashed",
        "c-000, c-001, c-002, c-003, c-004, c-005, c-006, c-007, c-008, c-009 and 42 other runs",
        "gpu-7:/data/my runs/CHECKLIST.md",
        "all of it: checker events '/data/my runs' --since 1000",
    ]
    assert told.severity is Severity.CRITICAL
    assert told.id == "1001-1064"


def test_the_checker_speaks_of_itself():
    told = about_checker("nobody watches this folder", PLACE, Severity.CRITICAL, "x")
    assert told.title == "checker of my runs"
    assert told.body.splitlines()[1] == "see how it is: checker doctor '/data/my runs'"
    assert trial(PLACE, "y").severity is Severity.INFO
