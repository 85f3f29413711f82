import json

import pytest

from checker import journal, judge, replay
from checker.events import Life, Tick
from checker.tail import fingerprint

TICK = Tick(
    now=1.7e9 + 0.1, state="running", run_id="r", step=3, life=Life.GONE, gone_since=1.7e9, busy=0.25, final=True
)


def test_a_look_at_the_clock_comes_back_exactly(tmp_path):
    book = journal.Journal(tmp_path)
    book.write("tick", journal.tick_out(TICK, 7))
    past = journal.recall(tmp_path, "")
    assert list(past.ticks) == [(7, TICK)]


def test_torn_and_foreign_lines_are_counted_and_cost_nothing(tmp_path):
    path = tmp_path / "findings.jsonl"
    path.write_bytes(b'{"kind": "fin')
    book = journal.Journal(tmp_path)
    book.write("finding", {"id": "r/nonfinite/0/critical"}, sync=True)
    book.write("act", {"finding": "r/nonfinite/0/critical", "act": "requested"})
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n[]\n{}\n\n" + b'{"kind": "tick", "after_row": "x", "now": null}\n{"kind": "act"')
    past = journal.recall(tmp_path, "")
    assert past.told == {"r/nonfinite/0/critical"}
    assert [act["act"] for act in past.acts_on("r/nonfinite/0/critical")] == ["requested"]
    assert past.unreadable == 6


def test_nothing_is_written_before_there_is_something_to_say(tmp_path):
    journal.Journal(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert journal.recall(tmp_path, "x") == journal.Past()


@pytest.mark.parametrize(
    ("now", "told"), [("abc", {"new"}), ("", set()), ("other", set())], ids=["same file", "empty", "other"]
)
def test_entries_about_a_file_that_was_replaced_are_history_only(tmp_path, now, told):
    book = journal.Journal(tmp_path)
    book.write("file", {"fingerprint": "old"})
    book.write("finding", {"id": "old"})
    book.write("file", {"fingerprint": "abc"})
    book.write("finding", {"id": "new"})
    assert journal.recall(tmp_path, now).told == told


def test_a_journal_that_began_before_the_first_row_goes_with_whatever_came(tmp_path):
    book = journal.Journal(tmp_path)
    book.write("file", {"fingerprint": fingerprint(tmp_path / "metrics.jsonl")})
    book.write("finding", {"id": "early"})
    assert journal.recall(tmp_path, "abc").told == {"early"}


def test_looks_are_merged_after_the_row_that_they_came_after():
    rows = list(replay.lines(b"".join(json.dumps({"step": n}).encode() + b"\n" for n in range(3))))
    ticks = [(-1, "before"), (0, "a"), (0, "b"), (2, "end"), (9, "never")]
    merged = [getattr(event, "step", event) for event in journal.merge(rows, ticks)]
    assert merged == ["before", 0, "a", "b", 1, 2, "end"]
    assert list(ticks) == [(9, "never")]


def test_the_key_of_an_effect_is_the_same_every_time():
    case = judge.Case.open()
    effects = []
    for event in replay.lines(b'{"loss": 1.0}\n{"loss": "NaN"}\n' + b'{"loss": 1.0}\n' * 20):
        effects += judge.step(case, event)
    assert [journal.key(effect) for effect in effects] == ["run/nonfinite/0/critical", "run/nonfinite/0/recovered"]
    assert journal.content(effects[1])["id"] == "run/nonfinite/0/recovered"


@pytest.mark.parametrize(
    ("state", "acts", "seen"),
    [("killed", [], True), ("completed", [], False), ("failed", ["requested"], False), ("running", ["sigterm"], True)],
    ids=["the same", "it went on and completed", "asked, but it failed", "gone before it could say so"],
)
def test_an_end_that_was_judged_is_that_end(state, acts, seen):
    tick = {"kind": "tick", "final": True, "state": "killed", "run_id": "r1", "started_at": None}
    entries = [tick, *({"kind": "act", "act": act} for act in acts)]
    assert journal.saw_end(entries, {"state": state, "run_id": "r1"}) is seen
