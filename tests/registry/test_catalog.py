"""What is read from folders of experiments: nothing is lost, hidden or followed for ever."""

import json
import math
import os
import shutil
from dataclasses import asdict

import pytest
from experiments_on_disk import METRIC, TIERS, add, find, put
from folders import gone_process

import contract
from checker.registry.catalog import Entry, entries
from checker.registry.find import Unknown
from checker.registry.find import find as named
from checker.registry.lineage import Family


def by_id(root):
    return {entry.id: entry for entry in entries(root)}


def test_an_empty_folder_has_no_experiments(tmp_path):
    assert entries(tmp_path) == []


def test_a_run_that_went_well_has_nothing_to_remark(tmp_path):
    add(tmp_path, "exp-001", value=0.9, tiers=TIERS, tags=["baseline"])
    (entry,) = entries(tmp_path)
    assert (entry.status, entry.value, entry.tier, entry.tags) == ("completed", 0.9, "could_pass", ("baseline",))
    assert (entry.shortfall, entry.finding, entry.failure, entry.error, entry.remark) == ("", "", "", "", "")


def test_the_result_counts_before_the_best_so_far(tmp_path):
    folder = add(tmp_path, "exp-001", value=0.9)
    put(folder, contract.STATUS, {"state": "completed", "best_metrics": {"val_loss": 5.0}})
    assert by_id(tmp_path)["exp-001"].value == 0.9


def test_a_result_that_was_copied_from_elsewhere_does_not_count(tmp_path):
    add(tmp_path, "exp-001", value=0.1)
    add(tmp_path, "exp-002", value=0.9)
    shutil.copy(tmp_path / "exp-001" / contract.RESULT, tmp_path / "exp-002" / contract.RESULT)
    assert by_id(tmp_path)["exp-002"].value == 0.9


def test_a_nan_result_is_shown_and_compared_with_nothing(tmp_path):
    add(tmp_path, "exp-001", value=1.0, tiers=TIERS)
    add(tmp_path, "exp-002", value="NaN", parent="exp-001", tiers=TIERS)
    add(tmp_path, "exp-003", value=0.5, parent="exp-002", tiers=TIERS)
    found = by_id(tmp_path)
    assert math.isnan(found["exp-002"].value)
    assert (found["exp-002"].tier, found["exp-002"].gain, found["exp-003"].gain) == ("fail", None, None)


@pytest.mark.parametrize(("state", "tier"), [("completed", "fail"), ("killed", "fail"), ("running", "")])
def test_only_a_run_that_is_over_has_missed_the_floor(tmp_path, state, tier):
    add(tmp_path, "exp-001", value=9.0, tiers=TIERS, state=state)
    assert by_id(tmp_path)["exp-001"].tier == tier


NOTES = {
    "plain": "The rate is too high.\n",
    "byte order mark and CRLF": "\ufeff# Hypothesis\r\n\r\nThe rate is too high.\r\n",
    "front matter": "---\nexp_id: exp-001\nparent_id: null\n---\n\n# Hypothesis\n\nThe rate is too high.\n",
    "a starred bullet": "# Hypothesis\n\n* The rate is too high.\n* something else\n",
    "a numbered bullet": "1. The rate is too high.\n2. something else\n",
}


@pytest.mark.parametrize("text", NOTES.values(), ids=NOTES.keys())
def test_a_persons_note_is_read(tmp_path, text):
    folder = add(tmp_path, "exp-001", state="pending")
    (folder / contract.HYPOTHESIS).write_text(text, newline="")
    assert by_id(tmp_path)["exp-001"].hypothesis == "The rate is too high."


def test_a_folder_with_nothing_but_a_note_is_a_pending_experiment(tmp_path):
    folder = tmp_path / "exp-004"
    folder.mkdir()
    (folder / contract.HYPOTHESIS).write_text(
        "---\nparent_id: exp-003\n---\nWider.\n\n## Rationale\n\n- it was narrow\n"
    )
    (entry,) = entries(tmp_path)
    assert (entry.id, entry.status, entry.parent) == ("exp-004", "pending", "exp-003")
    assert (entry.hypothesis, entry.rationale) == ("Wider.", "it was narrow")
    assert entry.remark == "its parent exp-003 is not here"


def test_a_folder_copied_by_hand_goes_by_its_own_name(tmp_path):
    add(tmp_path, "exp-001", value=1.0)
    shutil.copytree(tmp_path / "exp-001", tmp_path / "exp-001 copy")
    shutil.copytree(tmp_path / "exp-001", tmp_path / "a-copy")
    add(tmp_path, "exp-002", value=0.5, parent="exp-001")
    found = by_id(tmp_path)
    assert set(found) == {"exp-001", "exp-001 copy", "a-copy", "exp-002"}
    assert found["exp-001"].remark == ""
    assert found["a-copy"].remark == "a copy? it says it is exp-001"
    assert found["exp-002"].gain == 0.5


def test_a_newer_format_is_shown_as_far_as_it_is_understood(tmp_path):
    add(tmp_path, "exp-001", value=1.0, v=99, surprise={"a": 1})
    (entry,) = entries(tmp_path)
    assert entry.value == 1.0
    assert "is in format 99; this checker knows up to 1" in entry.remark


@pytest.mark.parametrize("name", [contract.EXPERIMENT, contract.STATUS])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"a": ' + b"[" * 10**5], ids=repr)
def test_an_unreadable_folder_is_shown_and_costs_nothing_else(tmp_path, name, content):
    add(tmp_path, "exp-001", value=1.0)
    (add(tmp_path, "exp-002", value=1.0) / name).write_bytes(content)
    add(tmp_path, "exp-003", value=0.5, parent="exp-002")
    found = by_id(tmp_path)
    assert [entry.status for entry in found.values()] == ["completed", "unreadable", "completed"]
    assert name in found["exp-002"].error


@pytest.mark.parametrize("name", [contract.RESULT, contract.FINDINGS, contract.HYPOTHESIS, contract.NEXT])
def test_other_damaged_files_do_not_hide_an_experiment(tmp_path, name):
    (add(tmp_path, "exp-001", value=1.0) / name).write_bytes(b"\xff\xfe{\x00[")
    assert by_id(tmp_path)["exp-001"].status == "completed"


FAILURES = {
    "no failure": ("completed", None, None, ""),
    "a warning": ("running", None, ("plateau", "warning"), ""),
    "a finding": ("killed", None, ("explosion", "critical"), "explosion of train_loss"),
    "an error": ("failed", "ValueError: 12 is not 0.5 (train.py:7: x)", None, "ValueError: # is not # (train.py:#: x)"),
    "an error that was told": ("failed", "ValueError: no", ("crash", "critical"), "ValueError: no"),
    "an error after something worse": (
        "failed",
        "ValueError: no",
        ("nonfinite", "critical"),
        "nonfinite of train_loss",
    ),
    "a crash": ("running", None, ("crash", "critical"), "crash of train_loss"),
    "an address": ("failed", "Error at 0x7f3a", None, "Error at #"),
    "a name with a digit": ("failed", "no layer2 in conv1d", None, "no layer2 in conv1d"),
}


@pytest.mark.parametrize(("state", "error", "finding", "failure"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_has_a_fingerprint_without_numbers(tmp_path, state, error, finding, failure):
    folder = add(tmp_path, "exp-001", state=state)
    if error:
        put(folder, contract.STATUS, {"state": state, "error": error})
    if finding:
        find(folder, finding[0], severity=finding[1])
    assert by_id(tmp_path)["exp-001"].failure == failure


# -------------------------------------------------------------------------------------------------------- families


def family(root):
    return Family(entries(root)), by_id(root)


def chain(root, *pairs):
    for name, parent in pairs:
        add(root, name, value=1.0, parent=parent)
    return family(root)


def test_a_line_of_ancestors(tmp_path):
    found, known = chain(tmp_path, ("a", None), ("b", "a"), ("c", "b"))
    line, broken = found.ancestors(known["c"])
    assert ([entry.id for entry in line], broken) == (["b", "a"], "")


@pytest.mark.parametrize(
    ("pairs", "line", "told"),
    [
        ([("a", "a")], [], "a circle of parents: a → a"),
        ([("a", "c"), ("b", "a"), ("c", "b")], ["b", "a"], "a circle of parents: c → b → a → c"),
        ([("a", "lost"), ("b", "a"), ("c", "b")], ["b", "a"], "lost, the parent of a, is not here"),
    ],
    ids=["its own parent", "a circle", "a lost parent"],
)
def test_a_broken_line_is_told_and_ends(tmp_path, pairs, line, told):
    found, known = chain(tmp_path, *pairs)
    above, broken = found.ancestors(known[pairs[-1][0]])
    assert ([entry.id for entry in above], broken) == (line, told)
    assert len(list(found.tree(known[pairs[0][0]]))) <= len(pairs)


def test_a_circle_is_told_of_those_in_it_only(tmp_path):
    _, known = chain(tmp_path, ("a", "c"), ("b", "a"), ("c", "b"), ("d", "c"), ("e", "e"), ("f", None), ("g", "f"))
    told = {name for name, entry in known.items() if "its parents go in a circle" in entry.remark}
    assert told == {"a", "b", "c", "e"}


def test_a_tree_holds_everybody_once_behind_the_parent(tmp_path):
    found, known = chain(tmp_path, ("a", None), ("b", "a"), ("c", "a"), ("d", "b"), ("e", "d"), ("f", "x"))
    assert [(place.depth, place.entry.id) for place in found.tree(known["a"])] == [
        (0, "a"), (1, "b"), (1, "d"), (1, "e"), (1, "c"),
    ]  # fmt: skip


def test_a_line_of_five_thousand_is_no_recursion():
    known = [Entry(f"e{n}", f"/x/e{n}", f"e{n - 1}" if n else None) for n in range(5000)]
    found = Family(known)
    assert len(found.ancestors(known[-1])[0]) == 4999
    assert len(list(found.tree(known[0]))) == 5000


# ----------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("exp-01", "did you mean exp-001"),
        ("exp-004", "did you mean exp-003"),
        ("zzz", "it has exp-001, exp-002, exp-003"),
    ],
)
def test_an_unknown_id_names_the_near_ones(tmp_path, asked, told):
    for number in (1, 2, 3):
        add(tmp_path, f"exp-{number:03d}")
    with pytest.raises(Unknown, match=told):
        named(asked, tmp_path)


def test_an_experiment_is_found_by_id_folder_and_path(tmp_path, monkeypatch):
    add(tmp_path / "e", "exp-001")
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "e"
    found = {named(how, root)[0].folder for how in ("exp-001", str(root / "exp-001"), "e/exp-001", "e/exp-001/")}
    assert len(found) == 1
    with pytest.raises(Unknown, match="No such file"):
        named("exp-001", tmp_path / "nowhere")
    with pytest.raises(Unknown, match="which has none at all"):
        named("exp-001", tmp_path)


def test_the_metric_needs_no_declaration(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    put(folder, contract.STATUS, {"state": "completed", "best_metrics": {"loss": 1.0, "val_acc": 0.5}})
    (found,) = entries(tmp_path)
    assert (found.metric, found.direction, found.value) == ("val_acc", "max", 0.5)


def test_everything_is_json_for_programs(tmp_path):
    add(tmp_path, "exp-001", value=1.0, tiers=TIERS, metric=METRIC, tags=["a"])
    document = json.loads(contract.encode(by_id(tmp_path)["exp-001"].document()))
    assert (document["id"], document["tier"], document["tags"]) == ("exp-001", "could_pass", ["a"])


@pytest.mark.parametrize(("process", "status"), [(gone_process(), "crashed"), (contract.this_process(), "running")])
def test_a_run_whose_process_is_gone_is_not_called_running_although_nobody_watched(tmp_path, process, status):
    folder = add(tmp_path, "exp-001")
    put(folder, contract.STATUS, {"state": "running", "process": asdict(process)})
    assert by_id(tmp_path)["exp-001"].status == status


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (contract.EXPERIMENT, "unreadable"),
        (contract.STATUS, "unreadable"),
        (contract.RESULT, "completed"),
        (contract.FINDINGS, "completed"),
        (contract.HYPOTHESIS, "completed"),
        (contract.PROMOTIONS, "completed"),
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "folder", "huge"])
def test_what_is_no_plain_file_is_named_and_never_waited_for(tmp_path, name, status, kind):
    if (name, kind) == (contract.FINDINGS, "huge"):
        pytest.skip("a journal may be long")
    path = add(tmp_path, "exp-001", value=1.0) / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 1 << 33)
    (found,) = entries(tmp_path)
    assert found.status == status
    assert name in found.error + found.remark


def test_a_link_to_an_experiment_is_no_second_one(tmp_path):
    add(tmp_path, "exp-001", value=1.0)
    (tmp_path / "exp-002").symlink_to(tmp_path / "exp-001")
    elsewhere = add(tmp_path / "elsewhere", "exp-003", value=1.0)
    (tmp_path / "exp-003").symlink_to(elsewhere)
    assert sorted(by_id(tmp_path)) == ["exp-001", "exp-003"]


def test_a_state_that_there_is_not_is_told(tmp_path):
    put(add(tmp_path, "exp-001"), contract.STATUS, {"state": "nonsense"})
    assert "says 'nonsense', which is no state" in by_id(tmp_path)["exp-001"].remark


def test_half_a_character_in_a_hypothesis_costs_nothing(tmp_path, call):
    add(tmp_path, "exp-001", hypothesis="half \ud800 of one", value=1.0)
    code, out, _ = call("list", tmp_path)
    assert (code, "half" in out) == (0, True)
    out.encode()


def test_half_a_character_in_a_finding_costs_nothing(tmp_path):
    folder = add(tmp_path, "exp-001", value=1.0)
    find(folder, "non_finite")
    journal = folder / contract.FINDINGS
    journal.write_text(journal.read_text().replace("train_loss non_finite", "half \\ud800 of one"))
    assert entries(tmp_path)[0].rule == "non_finite"
