"""Counting, tuning and the record of the test split, on a zoo of a dozen small runs."""

from __future__ import annotations

import json

import contest
import labelled
import pytest
import scoring
import table
from contest import Tool, Verdict
from curves import noisy_descent, rows
from labelled import Group, Run
from peers import PEERS
from peers.base import Peer
from quality import record

FLOOR = next(peer for peer in PEERS if peer.name.startswith("floor"))
NAN = [float("nan")] * 30
RUNS = {
    "good": ("healthy", noisy_descent(200), None),
    "odd": ("healthy", [*noisy_descent(150), *[9.0] * 3, *[0.6] * 47], None),
    "nan": ("nan", [*noisy_descent(170), *NAN], 170),
    "blown": ("diverged", [*noisy_descent(100), *[30.0] * 100], 100),
    "fog": ("unclear", noisy_descent(50), None),
}


def write(folder, names=RUNS):
    """A split of the zoo: bare logs, and one as a run folder."""
    folder.mkdir(parents=True)
    labels = []
    for name in names:
        label, losses, onset = RUNS[name]
        lines = "".join(json.dumps({"step": row.step, **row.values}) + "\n" for row in rows(losses))
        path = folder / name / "metrics.jsonl" if name == "blown" else folder / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(lines)
        labels.append({"id": name, "label": label, "program": name[0], "onset_row": onset})
    labels.append({"id": "gone", "label": "healthy", "program": "g"})
    (folder.parent / f"{folder.name}.labels.jsonl").write_text("\n".join(map(json.dumps, labels)))


@pytest.fixture
def zoo(tmp_path):
    write(tmp_path / "tune")
    write(tmp_path / "test")
    return tmp_path


def silent(runs):
    del runs


def play(tools, group):
    return contest.play(tools, group.runs, jobs=1, tell=silent)


def test_a_zoo_is_read_split_by_split(zoo):
    groups = labelled.zoo(zoo)
    assert [(group.name, len(group.runs), group.missing) for group in groups] == [("tune", 5, 1), ("test", 5, 1)]
    assert {run.split for run in groups[1].runs} == {"test"}


def test_a_label_of_no_class_is_an_error(zoo):
    (zoo / "test.labels.jsonl").write_text('{"id": "good", "label": "fine"}')
    with pytest.raises(ValueError, match="'fine', which is in none of the classes"):
        labelled.zoo(zoo)


def test_no_label_is_in_two_classes():
    classes = (labelled.QUIET, labelled.SHIFTED, labelled.HARD, labelled.SOFT, labelled.UNSCORED)
    assert len(frozenset.union(*classes)) == sum(map(len, classes))


def test_halves_share_no_program():
    runs = [Run(str(i), None, "healthy", f"program {i % 20}") for i in range(200)]
    first, second = labelled.halves(Group("public", runs))
    assert len(first.runs) + len(second.runs) == 200
    assert not {run.program for run in first.runs} & {run.program for run in second.runs}


def test_ours_and_a_peer_are_played_on_the_same_rows(zoo):
    played = play([Tool(), contest.documented(FLOOR)], labelled.zoo(zoo)[1])
    assert played.rows == {"good": 200, "odd": 200, "nan": 200, "blown": 200, "fog": 50}
    for verdicts in played.verdicts:
        assert {name for name, verdict in verdicts.items() if verdict.stop is not None} == {"nan", "blown"}
    assert played.verdicts[1]["nan"] == Verdict(172, 172, "3 non-finite rows")


def test_a_score_counts_runs_programs_and_delay():
    runs = [
        Run("a", None, "healthy", "p"),
        Run("b", None, "spike_recovered", "p"),
        Run("c", None, "harmless", "q"),
        Run("d", None, "nan", "p", onset=50),
        Run("e", None, "diverged", "p", onset=50),
        Run("f", None, "stall", "q"),
        Run("g", None, "overfit", "q", onset=1),
        Run("h", None, "unclear", "r"),
        Run("i", None, "shifted", "s"),
        Run("j", None, "shifted", "s"),
    ]
    said = {"a": Verdict(3, 3), "b": Verdict(None, 4), "d": Verdict(60, 40), "e": Verdict(None, 80), "h": Verdict(1, 1)}
    said |= {"i": Verdict(None, 5), "j": Verdict(5, 5)}
    verdicts = {run.id: said.get(run.id, Verdict()) for run in runs}
    score = scoring.score(verdicts, runs, dict.fromkeys(verdicts, 100))
    assert score.false_stops == (2, 5)
    assert score.false_words == (2, 2)
    assert score.programs_stopped == (2, 3)
    assert score.programs_named == (1, 1)
    assert score.hard_stopped == (1, 3)
    assert score.hard_seen == (2, 3)
    assert score.hard_by_program == 0.5
    assert score.soft_seen == (0, 1)
    assert score.delay == pytest.approx(0.1)
    assert score.stop_delay == pytest.approx(0.1)
    assert score.before == 1


def ramp(setup, *, above=1.0):
    """A peer that speaks up above a level."""
    del setup
    return lambda point: "high" if point.train_loss is not None and point.train_loss > above else None


def test_tuning_takes_the_limits_that_find_most_without_false_words(zoo):
    peer = Peer("ramp", "alert", "here", ramp, {"above": 1.0}, {"above": (1.0, 5.0, 20.0, 50.0)})
    (best,) = contest.tuned([peer], labelled.zoo(zoo)[0].runs, jobs=1, tell=silent)
    assert best.describe() == "tuned: above=20"


def test_where_all_limits_are_false_the_least_false_are_taken(zoo):
    peer = Peer("ramp", "alert", "here", ramp, {"above": 1.0}, {"above": (1.0, 5.0)})
    (best,) = contest.tuned([peer], labelled.zoo(zoo)[0].runs, jobs=1, tell=silent)
    assert best.describe() == "tuned: above=5"


def test_a_peer_whose_package_is_missing_is_named():
    peer = Peer("x", "stop", "nowhere", ramp, package="no-such-distribution")
    assert peer.version is None
    assert FLOOR.version == ""


def test_every_scoring_of_the_test_split_is_put_on_record(zoo):
    group = labelled.zoo(zoo)[1]
    swapped = {"nan": "healthy", "healthy": "nan"}
    spoiled = group._replace(runs=[run._replace(label=swapped.get(run.label, "unclear")) for run in group.runs])
    for scored in (group, spoiled):
        record(table.Scored(scored, [Tool()], play([Tool()], scored)), zoo / "record.md")
    first, second = (zoo / "record.md").read_text().split("\n## ")[1:]
    assert "false stops 0/2" in first
    assert "\n- " not in first
    assert "- stopped: nan (healthy), stopped at row " in second
    assert "- not seen: good (nan, onset at row None)" in second


def test_the_document_names_groups_limits_and_the_missing(zoo):
    tune, group = labelled.zoo(zoo)
    tools = [Tool(), contest.documented(FLOOR)]
    missing = Peer("Other", "stop", "nowhere", ramp, package="no-such-distribution")
    text = table.document([table.Scored(group, tools, play(tools, group))], [missing], tune, 60)
    for part in ("## test: 5 runs of 5 programs; 1 labelled runs are not there", "| ours | as shipped |", "Other"):
        assert part in text
    assert "| floor (a page of code) | documented | 0/2 0.0 % [0.0, 84.2] |" in text
