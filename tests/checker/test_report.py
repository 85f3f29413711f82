import re
import xml.etree.ElementTree as ET

import pytest
from by_hand import CONFIG, NAN, case_of, experiment, falling, finding, with_finding
from experiments_on_disk import put

import contract
from checker.events import Row, Unreadable
from checker.finding import Action, Severity
from checker.judge import Case, Episode, step
from checker.registry import planned
from checker.report import pages, stacks, story

EVIL = "a|b <script>x</script>\n\n# heading `c` \x1b[31m[l](http://x) sk-" + "aB3" * 10
KILLED = {"state": "killed", "run_id": "r1", "best_metrics": {"val_loss": 1.25}}
ACTS = [
    {"kind": "act", "act": "looked-again", "at": "2026-01-01T00:05:10.000000+00:00"},
    {"kind": "act", "act": "requested", "at": "2026-01-01T00:05:10.100000+00:00"},
    {"kind": "act", "act": "acknowledged", "at": "2026-01-01T00:05:10.300000+00:00", "step": 102},
    {"kind": "act", "act": "stopped", "at": "2026-01-01T00:05:11.500000+00:00"},
]
HEADINGS = [
    "What happened",
    "Mechanism",
    "Evidence",
    "Against it",
    "What cannot be judged",
    "Recommended next experiments",
]


def written(folder, case, *, status=KILLED, about=None, acts=(), unreadable=()):
    pages.write(folder, case, status=status, experiment=about, acts=acts, unreadable=unreadable)
    return (folder / contract.DIAGNOSIS).read_text()


def section(text, heading):
    return text.split(f"## {heading}\n")[1].split("\n## ")[0].strip()


def files(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "exp-004"
    folder.mkdir()
    return folder


@pytest.fixture
def nan():
    about = experiment(id="exp-004", name="fp16", config=CONFIG, total_steps=1000)
    return case_of(
        [*falling(100), NAN, NAN], plan=about, grad_norm=[1.0] * 97 + [20.0] * 3 + [NAN] * 2, lr=[0.009] * 102
    )


def about(**fields):
    return experiment(**{"id": "exp-004", "name": "fp16", "config": CONFIG, "total_steps": 1000, **fields})


def test_a_killed_nan_run_is_told_from_first_row_to_last_act(run, nan):
    text = written(run, nan, about=about(), acts=ACTS, unreadable=[Unreadable(88, "not valid JSON")])
    assert text.startswith(
        "# Diagnosis: fp16 (exp-004)\n\n**nonfinite** (critical): train_loss is nan, once; at step 100"
    )
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    happened = section(text, "What happened")
    assert "fell from 4 (step 0)" in happened
    assert "2.11" in happened, "the last finite loss"
    assert "10 %" in happened
    assert "The run is over: killed." in happened
    assert "- 2026-01-01 00:05:10 UTC: looked again: still true" in happened
    assert "- 0.3 s later: the run answered at step 102" in happened
    assert "- 1.5 s later: the run is gone" in happened
    assert "One optimizer step on a NaN gradient" in section(text, "Mechanism")
    assert "the gradient norm was 20, 20x its median until then (1)" in section(text, "Mechanism")
    assert "metrics.jsonl:88: not valid JSON" in section(text, "What cannot be judged")
    assert "no val_loss in the log: overfit" in section(text, "What cannot be judged")
    assert "![loss over steps, nonfinite marked](curve.svg)" in text
    ET.parse(run / contract.CURVE)


@pytest.mark.parametrize(
    ("name", "value", "step"),
    [
        ("onset", "row 100", "100"),
        ("value", "nan", "—"),
        ("finite before", "100", "—"),
        ("train loss, first", "4", "0"),
        ("train loss, last finite", "2.115", "99"),
        ("learning rate, last", "0.009", "101"),
        ("gradient norm, last finite", "20", "99"),
        ("best val_loss (status file)", "1.25", "—"),
    ],
    ids=str,
)
def test_evidence_is_a_table_of_quantities(run, nan, name, value, step):
    assert f"| {name} | {value} | {step} |" in section(written(run, nan, about=about()), "Evidence")


def test_a_quantity_with_a_step_of_its_own_takes_one_line(run):
    case = with_finding(case_of(falling(100)), finding("divergence", evidence={"best": 0.9912, "best_step": 88}))
    table = section(written(run, case), "Evidence")
    assert "| best | 0.9912 | 88 |" in table
    assert "best step" not in table


def test_the_checkpoint_to_go_back_to_is_the_last_before_the_onset(run, nan):
    saved = [{"step": step, "path": f"checkpoints/{step}"} for step in (50, 90, 101)]
    text = written(run, nan, status={**KILLED, "checkpoints": saved})
    assert "| last checkpoint before the onset | checkpoints/90 | 90 |" in text


def test_a_flat_gradient_norm_is_said_to_speak_against_the_step_size(run):
    case = case_of([*falling(100), NAN], grad_norm=[1.0] * 100 + [NAN])
    assert "the gradient norm did not rise before the onset (1, median 1)" in section(written(run, case), "Against it")


def test_a_validation_loss_that_does_not_follow_speaks_for_the_model(run):
    val = [2 - i / 100 if i % 10 == 0 else None for i in range(120)]
    case = with_finding(case_of([*falling(100), *[9.0 + i for i in range(20)]], val_loss=val), finding("divergence"))
    told = section(written(run, case), "Against it")
    assert "the validation loss did not follow: it is 0.9 (step 110), its lowest is 0.9 (step 110)" in told


def test_nothing_against_is_said_plainly(run, nan):
    assert section(written(run, nan), "Against it") == "- Nothing: no measured quantity speaks for another cause."


def test_a_healthy_run_says_so_with_its_numbers(run):
    losses = falling(400)
    case = case_of(losses, plan=about(total_steps=400), val_loss=losses, lr=[0.1] * 400, grad_norm=[1.0] * 400)
    text = written(run, case, status={"state": "completed"}, about=about(total_steps=400))
    assert "**Healthy**: no anomaly was found in 400 rows." in text
    assert re.search(r"fell from 3\.9\d+ \(step 3\) to its lowest level, 1\.0\d+ \(step 399\)", text)
    assert "The run is over: completed." in text
    assert section(text, "Against it") == "- Nothing: no measured quantity speaks against it."
    assert section(text, "What cannot be judged") == "- Nothing: every rule had what it needs."
    assert (run / contract.NEXT).exists()


def test_a_healthy_run_that_goes_on_gets_no_suggestions_yet(run):
    text = written(run, case_of(falling(400)), status={"state": "running", "heartbeat_at": "2026-01-01T10:00:00+00:00"})
    assert "no anomaly was found in 400 rows so far" in text
    assert "The run is running, last heard of at 10:00:00 UTC." in text
    assert not (run / contract.NEXT).exists()


def test_a_run_without_steps_is_counted_in_rows(run):
    case = Case.open()
    for index, loss in enumerate([3.0, 2.0, 1.0, NAN]):
        step(case, Row(index, index + 1, {"train_loss": loss}))
    text = written(run, case)
    assert "fell from 3 (row 0) to its lowest level, 1 (row 2), then it was non-finite" in text
    assert "| quantity | value | row |" in text
    assert "step" not in text.split("## Mechanism")[0]


def test_without_steps_nothing_is_called_a_step(run):
    case = Case.open()
    for index, loss in enumerate([3.0, 2.0, 1.0, 2.0, 3.0]):
        step(case, Row(index, index + 1, {"train_loss": loss, "val_loss": loss}, epoch=index))
    found = finding(
        "overfit", summary="best 1 (step 2)", against=("as at step 1",), evidence={"best_step": 2}, step=None
    )
    text = written(run, with_finding(case, found), status={"state": "completed"}) + (run / contract.NEXT).read_text()
    text += (run / contract.CURVE).read_text()
    assert "best 1 (row 2)" in text
    assert "as at row 1" in text
    assert "stop at row 2, where the validation loss was best" in text
    assert "loss over rows, overfit marked" in text
    assert not re.search(r"\bstep \d", text)


def test_a_crashed_run_is_not_said_to_be_running(run):
    case = with_finding(case_of(falling(100)), finding("crash", action=Action.ALERT))
    told = section(written(run, case, status={"state": "running"}), "What happened")
    assert "The status of the run says running, but its process is gone." in told
    assert "The run is running" not in told


@pytest.mark.parametrize(("state", "share"), [("completed", ""), ("killed", " (98 %)")])
def test_the_last_epoch_of_a_completed_run_is_not_ninety_eight_percent(run, state, share):
    case = Case.open()
    for index in range(100):
        step(case, Row(index, index + 1, {"train_loss": 3 - index / 50}, epoch=index // 2, total_epochs=50))
    text = written(run, case, status={"state": state})
    assert f"The log has 100 rows up to row 99{share}." in text
    assert "counts as completed" not in text


def resumed_case(losses=100):
    case = Case.open()
    for index, loss in enumerate(falling(losses)):
        run_id, at = ("r0", 1.7e9 + index) if index < losses // 2 else ("r1", 1.8e9 + index)
        step(case, Row(index, index + 1, {"train_loss": loss}, step=index, at=at, run_id=run_id))
    return case


def test_the_time_of_a_resumed_run_is_that_of_its_last_attempt(run):
    told = section(written(run, resumed_case(), status={"state": "completed", "run_id": "r1"}), "What happened")
    assert "up to step 99, written in 2 attempts, the last one in 49 s." in told


@pytest.mark.parametrize(
    ("run_id", "state", "said"),
    [
        ("r0", "completed", "An earlier attempt was asked"),
        ("r1", "killed", "It was asked"),
        (None, "completed", "An earlier attempt was asked"),
        (None, "killed", "It was asked"),
    ],
)
def test_a_request_to_an_earlier_attempt_is_told_as_one(run, run_id, state, said):
    kill = {"id": "k", "reason": "the disk is needed", "requested_by": "person", "run_id": run_id}
    text = written(run, resumed_case(), status={"state": state, "run_id": "r1", "kill": kill})
    assert f"The run is over: {state}. {said} to stop by person: the disk is needed." in text


def test_an_earlier_report_in_the_same_row_is_told(run):
    case = case_of(falling(100))
    case.findings.append(finding("stall", severity=Severity.WARNING, action=Action.ALERT, first_row=90, first_step=90))
    with_finding(case, finding("stall", first_row=90, first_step=90))
    text = written(run, case)
    assert "at step 90, first reported as warning, called critical later." in text
    assert "- step 90 (row 90): first reported, warning\n" in text
    assert "called critical, action kill, with no new row since the first report" in text
    assert "at once" not in section(text, "What happened")


def test_a_nan_beside_finite_numbers_is_not_said_to_have_ruined_the_weights(run):
    case = case_of([*falling(100), NAN, NAN, NAN], grad_norm=[1.0] * 103)
    told = section(written(run, case), "Mechanism")
    assert told.startswith("If the value reached the weights: one optimizer step on a NaN gradient")
    assert "after the onset the gradient norm (1, step 102) came out finite" in told


@pytest.mark.parametrize("rule", ["gradient_explosion", "explosion", "divergence"])
@pytest.mark.parametrize(
    ("end", "said"),
    [(1.1, "The model may be sound"), (4.0, "while the train loss went from 2.1"), (900.0, None)],
    ids=["near its lowest", "far below the train loss", "following"],
)
def test_a_validation_loss_that_stays_behind_the_train_loss_speaks_against(run, rule, end, said):
    val = [2 - i / 100 if i % 10 == 0 else None for i in range(100)] + [None] * 19 + [end]
    case = with_finding(case_of([*falling(100), *[1e3] * 20], val_loss=val), finding(rule))
    told = section(written(run, case), "Against it")
    assert ("the validation loss did not follow" in told) == (said is not None)
    assert said is None or said in told


def test_an_empty_log_is_not_called_healthy(run):
    text = written(run, case_of([]), status=None)
    assert "Nothing to judge yet" in text
    assert "Healthy" not in text


def test_a_kill_by_hand_is_not_taken_for_a_fault(run):
    text = written(run, case_of(falling(100)), status={**KILLED, "kill": "the disk is needed"})
    assert "**Healthy**" in text
    assert "It was asked to stop by person: the disk is needed." in text


def test_a_crash_tells_the_error(run):
    case = with_finding(case_of(falling(100)), finding("crash", action=Action.ALERT))
    text = written(run, case, status={"state": "failed", "error": "RuntimeError: shapes | differ"})
    assert r"The run is over: failed, with: RuntimeError: shapes \| differ." in text


def test_the_most_severe_finding_leads_and_the_others_are_also_seen(run, nan):
    with_finding(nan, finding("plateau", severity=Severity.WARNING, action=Action.ALERT, first_step=40, row=50))
    with_finding(nan, finding("loss_spike", severity=Severity.INFO, action=Action.NONE, first_step=20, row=20))
    text = written(run, nan)
    assert "\n**nonfinite** (critical)" in text
    assert "**Also seen**\n\n- plateau (warning, since step 40): plateau was seen\n- loss_spike (info" in text


def test_what_went_away_comes_after_what_is_still_true(run):
    case = case_of(falling(100))
    case.findings.append(finding("divergence"))
    case.episodes["divergence"] = Episode(number=1)
    with_finding(case, finding("plateau", severity=Severity.WARNING, action=Action.ALERT))
    text = written(run, case)
    assert "\n**plateau** (warning)" in text
    assert "- divergence (critical, since step 80; gone again): divergence was seen" in text


def test_a_remark_alone_leaves_the_run_healthy(run):
    case = with_finding(case_of(falling(100)), finding("loss_spike", severity=Severity.INFO, action=Action.NONE))
    text = written(run, case)
    assert "**Healthy**" in text
    assert "- loss_spike (info, since step 80): loss_spike was seen" in text


def test_hostile_text_stays_text(run):
    case = case_of([*falling(100), NAN, NAN])
    hostile = finding("divergence", summary=EVIL, against=(EVIL,), evidence={EVIL: EVIL, "x": 1.0})
    with_finding(case, hostile)
    status = {"state": EVIL, "error": EVIL, "best_metrics": {EVIL: 1.0, "x": "y"}, "kill": {"reason": EVIL}}
    status |= {"checkpoints": [{"path": EVIL, "step": 1}, 3]}
    acts = [{"act": EVIL, "at": EVIL, "detail": EVIL, "step": EVIL}]
    everything = about(id=EVIL, name=EVIL, hypothesis=EVIL)
    text = written(run, case, status=status, about=everything, acts=acts, unreadable=[Unreadable(1, EVIL)])
    text += (run / contract.NEXT).read_text() + (run / contract.CURVE).read_text()
    assert "<script" not in text
    assert "\x1b" not in text
    assert "sk-aB3" not in text
    assert "[SECRET]" in text
    assert "](http" not in text.replace(r"\](http", "")
    headings = re.findall(r"^#+ .*$", (run / contract.DIAGNOSIS).read_text(), re.MULTILINE)
    assert len(headings) == 1 + len(HEADINGS)
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == 4, line
    ET.parse(run / contract.CURVE)


@pytest.mark.parametrize(
    "status", [None, {}, {"state": 3}, {"best_metrics": [1], "checkpoints": {}, "kill": 7}], ids=str
)
def test_a_strange_status_file_costs_nothing(run, nan, status):
    assert "**nonfinite**" in written(run, nan, status=status)


def test_unreadable_lines_are_counted_and_the_first_are_shown(run):
    case = case_of(falling(20))
    case.history.unreadable = 12
    text = section(written(run, case, unreadable=[Unreadable(n, "bad") for n in range(1, 13)]), "What cannot be judged")
    assert text.count("metrics.jsonl:") == 5
    assert "7 more unreadable lines" in text


def test_writing_again_touches_nothing(run, nan):
    written(run, nan, about=about(), acts=ACTS)
    before = files(run)
    written(run, nan, about=about(), acts=ACTS)
    assert files(run) == before


# ---------------------------------------------------------------------------------------------------------- next.md


def ids_in(run):
    return [idea.name for idea in planned.ideas((run / contract.NEXT).read_bytes().decode("utf-8", "replace"))]


def test_next_is_an_overlay_per_idea(run, nan):
    written(run, nan, about=about())
    text = (run / contract.NEXT).read_text()
    assert text.startswith(
        "<!-- checker: begin -->\n# Next experiments\n\n## exp-004.1\n\n- train in bf16 instead of fp16\n"
    )
    assert "- Rationale: train_loss is nan, once (since step 100, at learning rate 0.009)" in text
    assert '```toml\n[train]\nprecision = "bf16"\n```' in text
    assert text.endswith("<!-- checker: end -->\n")


def test_ideas_are_numbered_as_children(run, nan):
    written(run, nan, about=about())
    assert ids_in(run) == ["exp-004.1", "exp-004.2", "exp-004.3"]


def test_while_a_run_goes_on_its_ideas_are_numbered_anew_and_best_first(run, nan):
    alive = {"state": "running", "run_id": "r1"}
    written(run, nan, about=about(), status=alive)
    assert planned.PROVISIONAL in (run / contract.NEXT).read_text()
    bf16 = {**CONFIG, "train": {**CONFIG["train"], "precision": "bf16", "clip_norm": 2.0}}
    written(run, nan, about=about(config=bf16), status=alive)
    assert ids_in(run) == ["exp-004.1", "exp-004.2"]
    written(run, nan, about=about())
    assert ids_in(run) == ["exp-004.1", "exp-004.2", "exp-004.3"]
    assert planned.PROVISIONAL not in (run / contract.NEXT).read_text()


def child(run, name, section, **change):
    """An experiment beside the run that differs from it by a change."""
    put(run, contract.EXPERIMENT, {"id": run.name, "config": CONFIG})
    config = {**CONFIG, section: {**CONFIG[section], **change}}
    folder = run.parent / name
    folder.mkdir()
    put(folder, contract.EXPERIMENT, {"id": name, "config": config, "hypothesis": "a child"})
    put(folder, contract.STATUS, {"state": "killed"})


def test_what_was_tried_is_not_suggested(run, nan):
    child(run, "exp-005", "train", precision="bf16")
    written(run, nan, about=about())
    text = (run / contract.NEXT).read_text()
    assert "bf16" not in text
    assert ids_in(run) == ["exp-004.1", "exp-004.2"]


def test_an_idea_that_has_been_tried_since_keeps_its_name_and_says_what_came_of_it(run, nan):
    written(run, nan, about=about())
    child(run, "exp-005", "train", precision="bf16")
    diagnosis = written(run, nan, about=about())
    assert ids_in(run) == ["exp-004.2", "exp-004.3", "exp-004.1"]
    text = (run / contract.NEXT).read_text()
    assert "## exp-004.1\n\n- train in bf16 instead of fp16\n- Rationale:" in text
    assert "- Tried: exp-005: killed\n" in text
    assert "exp-004.1" not in diagnosis
    before = files(run)
    written(run, nan, about=about())
    assert files(run) == before


def test_what_changes_no_configuration_is_no_experiment_of_its_own(run):
    case = with_finding(case_of(falling(100)), finding("crash", action=Action.ALERT))
    text = written(run, case, status={"state": "running"}, about=about())
    assert "- **By hand**: resume: trainer run exp-004 --resume (nothing is known against the model)." in text
    after = (run / contract.NEXT).read_text()
    assert re.findall(r"^## .*$", after, re.MULTILINE) == ["## exp-004, by hand"]
    assert planned.ideas(after)[0][0] == "exp-004, by hand"
    assert "```toml" not in after


def test_numbers_stay_when_other_experiments_appear(run, nan):
    written(run, nan, about=about())
    before = files(run)
    (run.parent / "exp-005").mkdir()
    (run.parent / "exp-040").mkdir()
    written(run, nan, about=about())
    assert files(run) == before


def test_a_new_idea_takes_a_free_number_and_the_old_ones_keep_theirs(run, nan):
    written(run, nan, about=about())
    bf16 = {**CONFIG, "train": {**CONFIG["train"], "precision": "bf16", "clip_norm": 2.0}}
    written(run, nan, about=about(config=bf16))
    found = planned.ideas((run / contract.NEXT).read_text())
    assert [(idea.name, idea.text) for idea in found] == [
        ("exp-004.2", "lower the learning rate from 0.009 to 0.0027"),
        ("exp-004.1", "clip gradients to norm 1 instead of 2"),
    ]


PEOPLE = {
    "before": (b"my notes\n\n", b""),
    "behind": (b"", b"\nmy notes"),
    "around, with CRLF and a BOM": (b"\xef\xbb\xbf# Mine\r\n\r\n", b"\r\n- an idea\r\n"),
    "not UTF-8": (b"caf\xe9 \x00\xff\n", b"\n\xfe"),
    "quoting a marker": (b"I saw `<!-- checker: begin -->` there\n", b""),
}


@pytest.mark.parametrize(("before", "behind"), PEOPLE.values(), ids=PEOPLE.keys())
def test_what_a_person_wrote_survives_byte_for_byte(run, nan, before, behind):
    written(run, nan, about=about())
    ours = (run / contract.NEXT).read_bytes().removesuffix(b"\n").replace(b"# Next experiments\n\n", b"# Old\n\n")
    (run / contract.NEXT).write_bytes(before + ours + behind)
    written(run, nan, about=about())
    now = (run / contract.NEXT).read_bytes()
    assert now.startswith(before)
    assert now.endswith(behind)
    assert b"# Old" not in now
    assert now.count(b"\n" + planned.END.encode()) == 1


BROKEN = {
    "no marker": b"# Mine\n\n- idea",
    "begin only": b"<!-- checker: begin -->\nmine",
    "end only": b"mine\n<!-- checker: end -->\n",
    "end before begin": b"<!-- checker: end -->\nmine\n<!-- checker: begin -->\n",
    "marker inside a line": b"x <!-- checker: begin --> y\nmine\n <!-- checker: end --> z\n",
    "empty": b"",
}


@pytest.mark.parametrize("old", BROKEN.values(), ids=BROKEN.keys())
def test_broken_markers_cost_nobody_a_byte(run, nan, old):
    (run / contract.NEXT).write_bytes(old)
    written(run, nan, about=about())
    once = (run / contract.NEXT).read_bytes()
    assert once.startswith(old)
    assert len(ids_in(run)) == 3
    written(run, nan, about=about())
    assert (run / contract.NEXT).read_bytes() == once


def test_a_title_that_a_person_wrote_is_not_repeated(run, nan):
    (run / contract.NEXT).write_text("# Next experiments\n\n## exp-009\n\n- mine\n")
    written(run, nan, about=about())
    assert (run / contract.NEXT).read_text().count("# Next experiments") == 1
    assert ids_in(run)[0] == "exp-009"


def test_suggestions_that_no_longer_hold_are_withdrawn(run, nan):
    written(run, nan, about=about())
    written(run, case_of(falling(100)), about=about(), status={"state": "running"})
    assert ids_in(run) == []
    assert "Nothing is suggested yet" in (run / contract.NEXT).read_text()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("## exp-007\n- one\n- Rationale: x", [("exp-007", "one")]),
        ("\ufeff## exp-007\r\n\r\n* one\r\n", [("exp-007", "one")]),
        ("## exp-007: title\n1. one\n2. two", [("exp-007", "one")]),
        ("##  EXP-12\n2) one", [("exp-12", "one")]),
        ("## exp-1\n## exp-2\n- two", [("exp-2", "two")]),
        ("## notes\n- none\n# exp-3\n- none", []),
        ("## exp-1\n```toml\n- not this\n```\n- this", [("exp-1", "this")]),
        ("- none", []),
        ("", []),
    ],
    ids=str,
)
def test_ideas_are_read_from_what_people_write(text, found):
    assert [(idea.name, idea.text) for idea in planned.ideas(text)] == found


DUMP = """Thread 0x01 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Current thread 0x02 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "/usr/lib/python3.11/site-packages/loader/queue.py", line 15 in get
  File "/home/me/train/loop.py", line 107 in advance
"""


def test_the_stacks_of_a_hang_name_the_culprit(tmp_path):
    (tmp_path / contract.STACKS).write_text(DUMP.replace("advance", "older") + "\n" + DUMP)
    assert stacks.frames(tmp_path) == ["loader/queue.py:15 get", "train/loop.py:107 advance"]


@pytest.mark.parametrize("text", ["", "no dump", "Current thread 0x02"])
def test_without_a_dump_there_are_no_frames(tmp_path, text):
    (tmp_path / contract.STACKS).write_text(text)
    assert stacks.frames(tmp_path) == []


def test_a_run_that_had_to_be_killed_is_over():
    act = {"act": "sigkill", "finding": "abc/stall/0/critical"}
    assert story.state_of({"state": "running", "run_id": "abc"}, [act]) == "killed"
    assert story.state_of({"state": "running", "run_id": "resumed"}, [act]) == "running"
