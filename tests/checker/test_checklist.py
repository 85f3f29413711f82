import json
import os
import re
import time

import pytest

import contract
from checker.report import checklist

METRIC = {"name": "val_loss", "direction": "min"}
TIERS = {"must_pass": 2.0, "should_pass": 1.5, "could_pass": 1.0}
SHORT = "should_pass: val_loss is 1.9, asked was 1.5"
NEXT = "<!-- checker: begin -->\n# Next experiments\n\n## exp-007\n\n- lower the rate | now\n<!-- checker: end -->\n"


@pytest.fixture
def root(tmp_path):
    return tmp_path


def found(rule="nonfinite", severity="critical", episode=0, **fields):
    usual = {"action": "kill", "row": 620, "step": 620, "first_step": 610, "summary": f"{rule} seen"}
    return {"v": 1, "kind": "finding", "rule": rule, "severity": severity, "episode": episode, **usual, **fields}


def recovered(rule="nonfinite", episode=0):
    return {"v": 1, "kind": "recovered", "rule": rule, "episode": episode, "row": 700}


def add(root, name, *, best=None, state="completed", journal=(), **fields):
    folder = root / name
    folder.mkdir()
    about = {"id": name, "created_at": "", "metric": METRIC, **fields}
    (folder / contract.EXPERIMENT).write_text(json.dumps(about))
    metrics = {} if best is None else {about["metric"]["name"]: best}
    if state:
        (folder / contract.STATUS).write_text(json.dumps({"state": state, "best_metrics": metrics}))
    for entry in journal:
        contract.append_line(folder / contract.FINDINGS, entry)
    return folder


def text(root):
    checklist.write(root)
    return (root / contract.CHECKLIST).read_text()


def cells(root, name):
    line = next(line for line in text(root).splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def one(root):
    (entry,) = checklist.entries(root)
    return entry


def test_no_experiments_yet(root):
    assert "No experiments yet." in text(root)
    assert "|" not in text(root)


def test_one_line_per_experiment(root):
    add(root, "exp-001", best=1.9, tiers=TIERS, hypothesis="a first try")
    add(root, "exp-002", best=1.44, tiers=TIERS, parent="exp-001", state="killed", journal=[found()])
    row = ["exp-002", "exp-001", "killed", "—", "val_loss=1.44", "+0.46", "should_pass"]
    assert cells(root, "exp-002") == [*row, "nonfinite at step 610: nonfinite seen"]
    assert cells(root, "exp-001") == [
        "exp-001",
        "—",
        "completed",
        "a first try",
        "val_loss=1.9",
        "—",
        "must_pass",
        SHORT,
    ]
    assert "2 experiments: 1 completed, 1 killed." in text(root)
    assert "Δ vs parent: + is better, - is worse" in text(root)


@pytest.mark.parametrize(
    ("direction", "parent", "child", "delta"),
    [
        ("min", 2.0, 1.5, "+0.5"),
        ("min", 1.5, 2.0, "-0.5"),
        ("max", 0.5, 0.75, "+0.25"),
        ("max", 0.75, 0.5, "-0.25"),
        ("min", 1.0, 1.0, "0"),
        ("min", None, 1.0, "—"),
        ("min", 1.0, None, "—"),
        ("min", "NaN", 1.0, "—"),
        ("min", 1.0, "Infinity", "—"),
    ],
)
def test_a_delta_says_better_or_worse_whatever_the_direction(root, direction, parent, child, delta):
    metric = {"name": "score", "direction": direction}
    add(root, "exp-001", best=parent, metric=metric)
    add(root, "exp-002", best=child, metric=metric, parent="exp-001")
    assert cells(root, "exp-002")[5] == delta


def test_other_metrics_and_lost_parents_are_not_compared(root):
    add(root, "exp-001", best=1.0)
    add(root, "exp-002", best=2.0, metric={"name": "accuracy", "direction": "max"}, parent="exp-001")
    add(root, "exp-003", best=2.0, parent="exp-999")
    add(root, "exp-004", best=2.0, parent="exp-004")
    assert [cells(root, f"exp-00{n}")[5] for n in (2, 3, 4)] == ["—", "—", "—"]


@pytest.mark.parametrize(
    ("best", "tiers", "tier"),
    [
        (2.5, TIERS, "fail"),
        (2.0, TIERS, "must_pass"),
        (1.2, TIERS, "should_pass"),
        (0.9, TIERS, "could_pass"),
        (0.9, {"must_pass": 0.5, "could_pass": 1.0}, "fail"),
        (0.9, {"should_pass": 1.0}, "should_pass"),
        (0.9, {}, "—"),
        (None, TIERS, "—"),
        (0.9, {"must_pass": "soon"}, "—"),
    ],
    ids=str,
)
def test_a_tier_is_reached_with_all_below_it(root, best, tiers, tier):
    add(root, "exp-001", best=best, tiers=tiers)
    assert cells(root, "exp-001")[6] == tier


def test_without_a_declared_metric_the_first_validation_metric_counts(root):
    folder = add(root, "exp-001", metric={"name": "", "direction": ""})
    status = {"state": "running", "best_metrics": {"train_loss": 1.0, "val_accuracy": 0.5}}
    (folder / contract.STATUS).write_text(json.dumps(status))
    assert cells(root, "exp-001")[4] == "val_accuracy=0.5"
    assert one(root).direction == "max"


JOURNALS = {
    "nothing": ([], "—"),
    "one": ([found()], "nonfinite at step 610: nonfinite seen"),
    "the most severe": ([found("plateau", "warning"), found("overfit")], "overfit at step 610: overfit seen"),
    "the earlier of equals": ([found("overfit"), found("nonfinite")], "overfit at step 610: overfit seen"),
    "it got worse": ([found(severity="warning", summary="x"), found(summary="y")], "nonfinite at step 610: y"),
    "gone": ([found(), recovered()], "—"),
    "gone and back": ([found(), recovered(), found(episode=1)], "nonfinite at step 610: nonfinite seen"),
    "another episode is gone": ([found(episode=1), recovered()], "nonfinite at step 610: nonfinite seen"),
    "a remark": ([found("loss_spike", "info")], "—"),
    "acts and looks": ([{"kind": "tick", "now": 1}, {"kind": "act", "act": "requested"}], "—"),
    "an act that quotes": ([found(), {"kind": "act", "x": '"kind":"file"'}], "nonfinite at step 610: nonfinite seen"),
    "about an older file": ([found(), {"kind": "file", "fingerprint": "x"}], "—"),
    "rows only": (
        [found(first_step=16, step=None, first_row=16, summary="best (step 16)")],
        "nonfinite at row 16: best (row 16)",
    ),
    "no step": ([found(first_step=None, step=None)], "nonfinite: nonfinite seen"),
}  # fmt: skip


@pytest.mark.parametrize(("journal", "shown"), JOURNALS.values(), ids=JOURNALS.keys())
def test_the_top_finding_comes_from_the_journal(root, journal, shown):
    add(root, "exp-001", journal=journal)
    assert cells(root, "exp-001")[7] == shown


def test_a_torn_journal_costs_its_torn_lines_only(root):
    folder = add(root, "exp-001", journal=[found()])
    with (folder / contract.FINDINGS).open("ab") as file:
        file.write(b'\xff\xfe "kind":"finding"\n{"kind":"finding","rule"')
    assert cells(root, "exp-001")[7].startswith("nonfinite")


def test_a_run_that_died_without_a_word_is_not_called_running(root):
    add(root, "exp-001", state="running", journal=[found("crash")])
    assert cells(root, "exp-001")[2] == "crashed"


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        (contract.EXPERIMENT, b'{"id": ', "unreadable: experiment.json: not valid JSON"),
        (contract.STATUS, b"[1, 2]", "unreadable: training\\_status.json: expected one JSON"),
        (contract.STATUS, b"\xff\xfe", "unreadable: training\\_status.json: not valid JSON"),
    ],
    ids=str,
)
def test_an_unreadable_folder_is_a_row_and_costs_the_others_nothing(root, name, content, shown):
    add(root, "exp-001", best=1.0)
    (add(root, "exp-002") / name).write_bytes(content)
    add(root, "exp-003", best=0.5, parent="exp-001")
    assert cells(root, "exp-002")[2] == "unreadable"
    assert cells(root, "exp-002")[7].startswith(shown.replace("\\", ""))
    assert cells(root, "exp-003")[5] == "+0.5"
    assert "3 experiments: 2 completed, 1 unreadable." in text(root)


def test_a_file_where_a_folder_should_be(root):
    folder = add(root, "exp-001")
    (folder / contract.STATUS).unlink()
    (folder / contract.STATUS).mkdir()
    assert cells(root, "exp-001")[2] == "unreadable"


STRANGE = {
    "all wrong": {"id": 3, "parent": [1], "metric": "loss", "tiers": [1], "hypothesis": {"a": 1}},
    "nulls": dict.fromkeys(("id", "parent", "metric", "tiers", "hypothesis")),
    "empty": {},
}


@pytest.mark.parametrize("document", STRANGE.values(), ids=STRANGE.keys())
def test_strange_records_are_shown_as_well_as_possible(root, document):
    folder = add(root, "exp-001")
    (folder / contract.EXPERIMENT).write_text(json.dumps(document))
    (folder / contract.STATUS).write_text(json.dumps({"state": ["x"], "best_metrics": [1, 2]}))
    assert "1 experiment: 1 running." in text(root)


def test_order_is_natural(root):
    for name in ("exp-10", "exp-9", "exp-2b", "exp-2", "run"):
        add(root, name)
    assert [entry.id for entry in checklist.entries(root)] == ["exp-2", "exp-2b", "exp-9", "exp-10", "run"]


def test_only_run_folders_count(root):
    (root / "notes").mkdir()
    (root / ".hidden").mkdir()
    (root / ".hidden" / contract.METRICS).touch()
    (root / "README.md").touch()
    (root / "bare").mkdir()
    (root / "bare" / contract.METRICS).touch()
    (entry,) = checklist.entries(root)
    assert (entry.id, entry.status) == ("bare", "unknown")


def test_hostile_text_stays_in_its_cell(root):
    evil = "a|b\n| c <b> `d` \x1b[31m AKIAIOSFODNN7EXAMPLE " + "x" * 200
    metric = {"name": evil, "direction": "min"}
    add(root, "exp-001", best=1.0, metric=metric, hypothesis=evil, parent=evil, journal=[found(summary=evil)])
    row = cells(root, "exp-001")
    assert len(row) == 8
    assert "<b>" not in text(root)
    assert "\x1b" not in text(root)
    assert "AKIA" not in text(root)
    assert row[3].endswith("…")
    assert len(row[3]) < 100


def test_writing_again_touches_nothing(root):
    add(root, "exp-001", best=1.0)
    text(root)
    before = os.stat(root / contract.CHECKLIST)
    text(root)
    after = os.stat(root / contract.CHECKLIST)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_change_in_any_file_is_seen(root):
    folder = add(root, "exp-001", best=1.0)
    assert cells(root, "exp-001")[4] == "val_loss=1"
    (folder / contract.STATUS).write_text(json.dumps({"state": "killed", "best_metrics": {"val_loss": 0.125}}))
    assert cells(root, "exp-001")[2:5:2] == ["killed", "val_loss=0.125"]
    contract.append_line(folder / contract.FINDINGS, found())
    assert cells(root, "exp-001")[7].startswith("nonfinite")


def test_planned_experiments_are_listed_newest_first(root):
    for number in range(1, 6):
        folder = add(root, f"exp-{number:03d}")
        (folder / contract.NEXT).write_text(NEXT.replace("exp-007", f"exp-{number + 10:03d}"))
    listed = text(root).split("## Next planned\n\n")[1].splitlines()
    assert listed == [f"- exp-{n + 10:03d} (after exp-{n:03d}): lower the rate \\| now" for n in (5, 4, 3)] + [
        "- and 2 more in the `next.md` of 2 older experiments"
    ]


def test_the_checkers_own_ideas_carry_their_parent_in_their_name(root):
    (add(root, "exp-001") / contract.NEXT).write_text("## exp-001.2\n\n- clip\n")
    assert "- exp-001.2: clip" in text(root)


def test_what_is_to_be_done_by_hand_is_planned_too(root):
    text_of_next = (
        "## exp-001, by hand\n\n- resume\n  - Rationale: x\n- profile\n\n## exp-001.1\n\n- 0.1 more dropout\n"
    )
    (add(root, "exp-001") / contract.NEXT).write_text(text_of_next)
    listed = text(root).split("## Next planned\n\n")[1].splitlines()
    assert listed == ["- exp-001, by hand: resume", "- exp-001, by hand: profile", "- exp-001.1: 0.1 more dropout"]


def test_a_process_that_was_killed_for_a_finding_is_not_running(root):
    act = {"kind": "act", "finding": "run/stall/0/critical", "rule": "stall", "act": "sigkill"}
    add(root, "exp-001", state="running", journal=[found("stall"), act, found("crash")])
    assert cells(root, "exp-001")[2] == "killed"


def test_an_idea_is_not_escaped_twice(root):
    (add(root, "exp-001") / contract.NEXT).write_text("## exp-002\r\n* a \\| b &lt;c&gt; <d>\r\n")
    assert "- exp-002 (after exp-001): a \\| b &lt;c&gt; &lt;d&gt;" in text(root)


def test_without_ideas_there_is_no_such_section(root):
    add(root, "exp-001")
    assert "Next planned" not in text(root)


def test_ten_thousand_folders_are_read_once(root):
    for number in range(300):
        add(root, f"exp-{number:05d}", best=1.0, parent=f"exp-{number - 1:05d}")
    text(root)
    start = time.perf_counter()
    text(root)
    assert time.perf_counter() - start < 300 * 0.002  # 0.17 ms a folder were measured; this is no benchmark
