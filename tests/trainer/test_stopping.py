import json
import math
import signal

import pytest
from executed import pending

from contract import Kill, Phase, Process, State, StatusFile, request_kill
from trainer.external.acceptance import Mismatch, Result
from trainer.external.custody import Custody, Occupied
from trainer.external.output import Output
from trainer.external.program import ending
from trainer.external.progress import Progress
from trainer.external.stopping import Stopping, asked
from trainer.external.verdict import conclude
from trainer.known import read_record

KILL = Kill(id="k", reason="enough", grace_seconds=20.0)
SAVING = {"phase": "checkpoint"}


def told(stopping, looks):
    """At which moments it was told what, from (moment, document) pairs."""
    sent = [(moment, stopping.due(moment, document)) for moment, document in looks]
    return [(moment, signal.Signals(signum).name) for moment, signum in sent if signum is not None]


def seconds(end, document=None):
    return [(float(moment), document or {}) for moment in range(end)]


@pytest.mark.parametrize(
    ("answers", "kill", "looks", "signals"),
    [
        (False, KILL, seconds(100), [(0, "SIGTERM"), (20, "SIGKILL")]),
        (True, KILL, seconds(30), []),
        (True, KILL, seconds(100), [(35, "SIGTERM"), (45, "SIGKILL")]),
        (True, KILL, seconds(599, SAVING), []),
        (True, KILL, seconds(700, SAVING), [(600, "SIGTERM"), (610, "SIGKILL")]),
        (False, KILL, seconds(100, SAVING), [(0, "SIGTERM"), (20, "SIGKILL")]),
        (False, Kill(id="k", reason="", grace_seconds="soon"), seconds(100), [(0, "SIGTERM"), (30, "SIGKILL")]),
        (False, Kill(id="k", reason="", grace_seconds=math.nan), seconds(100), [(0, "SIGTERM"), (30, "SIGKILL")]),
        (False, Kill(id="k", reason="", grace_seconds=-5.0), seconds(100), [(0, "SIGTERM"), (1, "SIGKILL")]),
        (False, Kill(id="k", reason="", grace_seconds=math.inf), seconds(700), [(0, "SIGTERM"), (600, "SIGKILL")]),
    ],
    ids=["by-signal", "it-answers", "it-never-goes", "it-saves", "it-saves-for-ever", "its-phase-is-ours",
         "grace-a-text", "grace-nan", "grace-negative", "grace-endless"],
)  # fmt: skip
def test_who_does_not_go_is_told_so(answers, kill, looks, signals):
    assert told(Stopping(kill, 0.0, answers), looks) == signals


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({}, None),
        ({"kill": None}, None),
        ({"state": "completed", "kill": True}, None),
        ({"run_id": "r", "kill": {"id": "k", "reason": "old", "run_id": "other"}}, None),
        ({"run_id": "r", "kill": {"id": "k", "reason": "mine", "run_id": "r"}}, "mine"),
        ({"run_id": "own", "kill": {"id": "k", "reason": "its own", "run_id": "own"}}, "its own"),
        ({"run_id": "r", "kill": "by hand"}, "by hand"),
        ({"run_id": "r", "kill": {"id": "k", "reason": "answered"}, "ack": {"id": "k"}}, "answered"),
    ],
    ids=["nothing", "null", "over", "stale", "ours", "of-its-run-log", "by-hand", "answered-already"],
)
def test_which_request_counts(document, reason):
    kill = asked(document, "r")
    assert (kill.reason if kill else None) == reason


MISSING = [Mismatch("result.json", "a file", None, "the program has not written it")]
GOOD = Result(value=0.25)


@pytest.mark.parametrize(
    ("code", "kill", "document", "result", "mismatches", "state", "said"),
    [
        (0, None, {}, None, MISSING, "failed", "exit code 0, but no result.json; last output: the end"),
        (3, None, {"state": "running"}, None, MISSING, "failed", "exit code 3, but no result.json"),
        (0, KILL, {}, GOOD, [], "killed", "the program stopped (exit code 0)"),
        (-15, KILL, {}, None, MISSING, "killed", "ended by SIGTERM"),
        (3, None, {"state": "killed"}, None, MISSING, "killed", "exit code 3"),
        (1, None, {"state": "failed"}, GOOD, [], "completed", "exit code 1, but result.json says completed"),
        (0, None, {}, GOOD, [], "completed", ""),
        (0, None, {"state": "completed"}, Result(failure="no GPU"), [], "failed", "no GPU"),
        (0, None, {}, None, [Mismatch("run_id", "a", "b", "why")], "failed", "rejected: run_id: expected 'a'"),
        (-64, None, {}, None, MISSING, "failed", "ended by"),
    ],
    ids=["exit-0-no-result", "exit-3-unasked", "asked-with-a-result", "asked", "its-run-log-says-killed",
         "result-decides", "plain", "honest-failure", "mismatch", "odd-signal"],
)  # fmt: skip
def test_the_result_decides(code, kill, document, result, mismatches, state, said):
    verdict = conclude(code, kill, document, result, mismatches, "the end")
    assert verdict.state == state
    assert said in " ".join([verdict.error or "", *verdict.notes])


def test_an_unknown_signal_is_told_by_its_number():
    assert ending(-200) == "ended by signal 200"


# ------------------------------------------------------------------------------------------------ the status file


@pytest.fixture
def custody(tmp_path):
    folder = pending(tmp_path)
    held = Custody(folder, read_record(folder), "run-1")
    yield held
    if held._thread.is_alive():
        held._over = True
        held._wake.set()
        held._thread.join()


def on_disk(custody):
    return json.loads(custody.file.path.read_text())


def taken_over(custody, **over):
    """What a RunLog in the program does."""
    custody.file.edit(lambda document: {**document, "started_at": "2026-01-01T00:00:00+00:00", **over})


def test_a_request_is_never_dropped_and_other_keys_stay(custody):
    custody.file.path.write_text(json.dumps({"state": "pending", "mine": 1}))
    custody.claim()
    request_kill(StatusFile(custody.file.path.parent), KILL)
    custody.enter(Phase.TRAIN, Process(pid=7, host="h"))
    custody.end(State.COMPLETED, None)
    found = on_disk(custody)
    assert (found["kill"]["id"], found["mine"], found["state"]) == ("k", 1, "completed")


def test_a_request_from_before_the_run_is_set_aside(custody):
    custody.file.path.write_text(json.dumps({"state": "failed", "run_id": "run-0", "kill": "old"}))
    custody.claim()
    assert asked(on_disk(custody), "run-1") is None
    custody.end(State.FAILED, "x")
    assert on_disk(custody)["notes"] == ["a request to stop from before this run was set aside: old"]


def test_a_run_that_has_begun_meanwhile_keeps_its_folder(custody):
    custody.file.path.write_text(json.dumps({"state": "running", "run_id": "run-0"}))
    with pytest.raises(Occupied):
        custody.claim()
    assert on_disk(custody) == {"state": "running", "run_id": "run-0"}


def test_the_program_may_take_the_file_over(custody):
    custody.claim()
    assert not custody.taken_over
    taken_over(custody, step=3, state="running")
    custody.enter(Phase.TRAIN, Process(pid=7, host="h"))
    assert custody.taken_over
    assert (on_disk(custody)["step"], on_disk(custody)["phase"]) == (3, "start")


@pytest.mark.parametrize(
    ("said", "verdict", "kept"),
    [
        ({"state": "completed"}, (State.COMPLETED, None), {"state": "completed", "error": None}),
        ({"state": "completed"}, (State.FAILED, "rejected"), {"state": "failed", "error": "rejected"}),
        ({"state": "failed", "error": "boom"}, (State.FAILED, "no result"), {"state": "failed", "error": "boom"}),
        ({"state": "failed", "error": "boom"}, (State.COMPLETED, None), {"state": "completed", "error": None}),
        ({"state": "running"}, (State.FAILED, "ended by SIGKILL"), {"state": "failed", "error": "ended by SIGKILL"}),
        ({"is_training": False}, (State.COMPLETED, None), {"state": "completed", "is_training": False}),
    ],
    ids=["both-completed", "rejected", "both-failed", "result-decides", "no-goodbye", "without-a-state"],
)
def test_only_a_verdict_that_differs_corrects_the_programs_last_word(custody, said, verdict, kept):
    custody.claim()
    taken_over(custody, metrics={"loss": 1.0}, notes=["its own"], **said)
    custody.note("ours")
    custody.end(*verdict)
    found = on_disk(custody)
    assert kept.items() <= found.items()
    assert (found["notes"], found["metrics"]) == (["its own", "ours"], {"loss": 1.0})


def test_a_status_file_that_was_deleted_is_written_again(custody):
    custody.claim()
    custody.file.path.unlink()
    custody.end(State.FAILED, "x")
    assert on_disk(custody)["state"] == "failed"


# ------------------------------------------------------------------------------------------------ output, progress


def kept_of(blocks, limit):
    output = Output(limit)
    for block in blocks:
        output._keep("stdout", block)
    return output


def test_the_end_of_the_output_is_kept_and_the_rest_is_counted():
    output = kept_of([b"a" * 7, b"b" * 7, b"c" * 7], 10)
    assert output.tail() == "… 11 bytes before this were not kept\n".encode() + b"bbbccccccc"
    assert kept_of([b"short"], 10).tail() == b"short"


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        (b"", ""),
        (b"\n \n", ""),
        (b"1%\r2%\r3%\n", "1% | 2% | 3%"),
        (b"1\n2\n3\n4\n5\n6\n", "2 | 3 | 4 | 5 | 6"),
        (b"\xff\xfe\n", "\ufffd\ufffd"),
    ],
    ids=["nothing", "blank", "progress-bar", "five-lines", "no-text"],
)
def test_the_last_words_fit_on_a_line(printed, words):
    assert kept_of([printed], 1000).last_words() == words
    assert len(kept_of([b"x" * 10_000], 1 << 20).last_words()) <= 1000


def test_what_it_says_on_its_way_out_does_not_drown_in_its_output():
    output = kept_of([b"step 1\n"], 1000)
    output._keep("stderr", b"ValueError: boom\n")
    output._keep("stdout", b"step 2\n")
    assert output.last_words() == "ValueError: boom"
    assert output.tail() == b"step 1\nValueError: boom\nstep 2\n"


def test_others_at_work_are_progress_for_half_an_hour(tmp_path, monkeypatch):
    clock, used = [1000.0], [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.time", lambda: clock[0])
    monkeypatch.setattr("trainer.external.progress.cpu_seconds", lambda _pid: used[0])
    progress = Progress(lambda: 1000.0, tmp_path / "metrics.jsonl", lambda: [7])
    clock[0], used[0] = 1100.0, 50.0
    assert progress.at() == 1100.0
    clock[0] = 1200.0  # idle since
    assert progress.at() == 1100.0
    clock[0], used[0] = 5000.0, 4000.0  # busy, but without a word for an hour
    assert progress.at() == 2800.0
