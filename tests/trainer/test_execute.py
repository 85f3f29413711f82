"""`trainer exec` with real programs; what is decided without one is in test_acceptance and test_stopping."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from executed import pending, python, state_of
from processes import wait_until

from contract import Exit, Kill, StatusFile, request_kill
from trainer.cli import main
from trainer.external.execute import execute
from trainer.external.guard import marked
from trainer.known import SpecError

ROOT = Path(__file__).parents[2]
WAIT = "\nimport time\nwhile True: time.sleep(0.05)\n"
FAMILY = """
import subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleep); subprocess.Popen(sleep, start_new_session=True)
"""


def left_behind(folder):
    """What `trainer exec` must never leave: the spec, temporary files, processes."""
    files = [path.name for path in folder.iterdir() if path.name == "spec.json" or path.name.endswith(".tmp")]
    return files + marked(state_of(folder)["run_id"])


# ---------------------------------------------------------------------------------------------- how a run ends

# name: lines of the program, exit code, state, what its error says, files that are there afterwards
ENDINGS = {
    "exit-0-without-a-result": ("pass", 1, "failed", "exit code 0, but no result.json", []),
    "printing-the-result": ("print(json.dumps(result))", 1, "failed", "exit code 0, but no result.json", []),
    "a-result-of-another-run": ("write(run_id='x')", 1, "failed", "run_id: expected", ["result.rejected-{run}.json"]),
    "a-value-that-is-a-text": ("write('0.25')", 1, "failed", "primary_metric.value", ["result.rejected-{run}.json"]),
    "half-a-result": (
        "open(spec['result_path'], 'w').write('{')", 1, "failed", "not valid JSON", ["result.rejected-{run}.json"],
    ),
    "nan-is-kept": ("write(float('nan'))", 0, "completed", None, ["result.json", "result.md"]),
    "a-good-result": ("write()", 0, "completed", None, ["result.json", "result.md"]),
    "a-good-result-and-exit-1": ("write(); sys.exit(1)", 0, "completed", None, ["result.json", "result.md"]),
    "an-honest-failure": (
        "write(None, status='failed', failure_reason='no GPU')", 1, "failed", "no GPU", ["result.failed-{run}.json"],
    ),
    "a-failure-that-cannot-be-printed": (
        "write(None, status='failed', failure_reason='\\ud800')", 1, "failed", "\ud800", ["result.failed-{run}.json"],
    ),
    "an-exception": ("raise ValueError('boom')", 1, "failed", "ValueError: boom", []),
    "killed-by-the-system": ("os.kill(os.getpid(), 9)", 1, "failed", "ended by SIGKILL, but no result.json", []),
    "it-moves-its-own-spec": ("os.unlink(os.environ['TRAINER_SPEC']); write()", 0, "completed", None, ["result.json"]),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "code", "state", "error", "files"), ENDINGS.values(), ids=ENDINGS)
def test_how_a_run_ends(tmp_path, lines, code, state, error, files):
    folder = pending(tmp_path)
    assert execute(folder, python(lines)) == code
    status = state_of(folder)
    assert (status["state"], status["is_training"], status["kill"]) == (state, False, None)
    assert error in status["error"] if error else status["error"] is None
    there = {path.name for path in folder.iterdir()}
    assert {name.format(run=status["run_id"]) for name in files} <= there
    assert ("result.json" in there) == (state == "completed")
    assert "output.log" in there
    assert left_behind(folder) == []


def test_a_result_is_kept_in_the_projects_own_form(tmp_path, capsys):
    parent = pending(tmp_path, tiers={"must_pass": 0.5})
    execute(parent, python("write(0.4)"))
    child = pending(tmp_path, "exp-002", parent="exp-001", tiers={"must_pass": 0.5, "should_pass": 0.1})
    assert execute(child, python("write(0.25, secondary_metrics={'acc': 0.9}); sys.exit(7)")) == Exit.FINISHED
    kept = json.loads((child / "result.json").read_text())
    assert (kept["oracle_tier"], kept["primary_metric"]["gain_vs_parent"]) == ("must_pass", pytest.approx(0.15))
    assert kept["run_id"] == state_of(child)["run_id"]
    assert {"config", "code"} <= set(kept["fingerprints"])
    assert "exit code 7, but result.json says completed and is in order" in state_of(child)["notes"]
    assert "exp-002 val_err 0.25, tier must_pass" in capsys.readouterr().out


def test_nan_passes_no_tier(tmp_path):
    folder = pending(tmp_path, tiers={"must_pass": 0.5})
    execute(folder, python("write(float('nan'))"))
    kept = json.loads((folder / "result.json").read_text())
    assert (kept["oracle_tier"], kept["primary_metric"]["value"]) == ("fail", "NaN")


def test_all_mismatches_are_printed_one_per_line_and_stand_in_the_status(tmp_path, capsys):
    folder = pending(tmp_path)
    execute(folder, python("write('x', experiment_id='e', run_id='r')"))
    said = capsys.readouterr().out.splitlines()
    for field in ("experiment_id", "run_id", "primary_metric.value"):
        assert sum(f"exp-001 {field}: expected" in line for line in said) == 1
        assert any(field in note for note in state_of(folder)["notes"])
        assert field in state_of(folder)["error"]


def test_an_old_result_never_counts(tmp_path):
    folder = pending(tmp_path)
    (folder / "result.json").write_text('{"old": 1}')
    (folder / "result.md").write_text("old")
    assert execute(folder, python("pass")) == Exit.FAILED
    run = state_of(folder)["run_id"]
    assert (folder / f"result.before-{run}.json").read_text() == '{"old": 1}'
    assert (folder / f"result.before-{run}.md").read_text() == "old"
    assert not (folder / "result.json").exists()


@pytest.mark.parametrize("where", ["acceptance.accepted", "conclude", "result.write"])
def test_a_result_that_nobody_could_judge_does_not_keep_its_name(tmp_path, monkeypatch, where):
    def stumbles(*_words, **_more):
        raise RuntimeError("boom")

    folder = pending(tmp_path)
    (folder / "result.json").write_text("old")
    monkeypatch.setattr(f"trainer.external.execute.{where}", stumbles)
    with pytest.raises(RuntimeError, match="boom"):
        execute(folder, python("write()"))
    status = state_of(folder)
    assert (status["state"], status["error"]) == ("aborted", "trainer exec: RuntimeError: boom")
    assert not (folder / "result.json").exists()
    assert (folder / f"result.before-{status['run_id']}.json").read_text() == "old"
    assert (folder / f"result.rejected-{status['run_id']}.json").exists()
    assert f"result.json was set aside as result.rejected-{status['run_id']}.json" in status["notes"]


def test_the_status_says_how_long_a_run_took(tmp_path):
    folder = pending(tmp_path)
    execute(folder, python("import time; time.sleep(0.3); write()"))
    assert 0.3 <= state_of(folder)["wall_time_seconds"] < 60


def test_the_program_is_told_where_everything_is(tmp_path):
    folder = pending(tmp_path)
    lines = """
spec_path, place, result_path, braces = sys.argv[1:]
assert spec_path == os.environ["TRAINER_SPEC"] and json.load(open(spec_path)) == spec
assert (place, result_path) == (spec["folder"], spec["result_path"]), sys.argv
assert braces == '{"a": {}}' and spec["config"] == {"lr": 0.1} and spec["run_id"] == os.environ["TRAINER_RUN_ID"]
status = json.load(open(place + "/training_status.json"))
assert (status["state"], status["run_id"]) == ("running", spec["run_id"])
write()
"""
    assert execute(folder, python(lines, "{spec}", "{folder}", "{result}", '{"a": {}}')) == Exit.FINISHED


def test_a_program_that_does_not_exist_is_a_failed_run(tmp_path):
    folder = pending(tmp_path)
    assert execute(folder, ["/no/such/program", "{spec}"]) == Exit.FAILED
    assert "/no/such/program: cannot be started" in state_of(folder)["error"]
    assert left_behind(folder) == []
    assert execute(folder, python("write()")) == Exit.FINISHED  # corrected, it may try again


def test_what_a_program_leaves_running_is_ended(tmp_path):
    folder = pending(tmp_path)
    assert execute(folder, python(FAMILY + "write()")) == Exit.FINISHED
    assert left_behind(folder) == []
    assert any("2 processes that the program had left behind were ended" in note for note in state_of(folder)["notes"])


def test_a_budget_that_is_used_up_stops_the_program(tmp_path):
    folder = pending(tmp_path, budget={"wall_minutes": 0.001})
    assert execute(folder, python(FAMILY + WAIT), grace_seconds=0.1) == Exit.STOPPED
    status = state_of(folder)
    assert (status["state"], status["ack"]["id"]) == ("killed", status["kill"]["id"])
    assert status["kill"]["reason"] == "budget: wall_minutes = 0.001 are used up"
    assert left_behind(folder) == []


RUNLOG = """
from trainer.log import RunLog
with RunLog(spec["folder"], total_steps=9) as log:
    assert log.run_id == spec["run_id"]
    for step in range(1, 10**9):
        log.step(step, loss=1.0)
        if log.should_stop(step): break
        {each}
"""


def test_a_program_with_a_run_log_answers_for_itself(tmp_path):
    folder = pending(tmp_path, budget={"wall_minutes": 0.01})
    lines = RUNLOG.format(each="import time; time.sleep(0.01)")
    assert execute(folder, python(lines), grace_seconds=0.1) == Exit.STOPPED
    status = state_of(folder)
    assert (status["state"], status["ack"]["step"] > 0) == ("killed", True)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert (rows[-1]["event"], {row["run_id"] for row in rows}) == ("training_end", {status["run_id"]})


def test_a_run_log_that_says_completed_without_a_result_is_corrected(tmp_path):
    folder = pending(tmp_path)
    assert execute(folder, python(RUNLOG.format(each="break"))) == Exit.FAILED
    status = state_of(folder)
    assert (status["state"], status["step"], status["metrics"]) == ("failed", 1, {"loss": 1.0})
    assert "primary_metric.value: expected 'a number', found None" in status["error"]


def test_a_run_log_that_measured_what_counts_leaves_the_result_itself(tmp_path):
    folder = pending(tmp_path, tiers={"must_pass": 2.0})
    lines = RUNLOG.replace("loss=1.0", "val_err=1.0 / step").format(each="if step == 4: break")
    assert execute(folder, python(lines)) == Exit.FINISHED
    kept = json.loads((folder / "result.json").read_text())
    assert (kept["primary_metric"]["value"], kept["oracle_tier"]) == (0.25, "must_pass")


def test_a_run_log_with_a_result_stays_as_it_wrote_itself(tmp_path):
    folder = pending(tmp_path)
    assert execute(folder, python(RUNLOG.format(each="break") + "\nwrite()")) == Exit.FINISHED
    assert (state_of(folder)["state"], state_of(folder)["total_steps"]) == ("completed", 9)


# ------------------------------------------------------------------------------------------ what cannot be begun


@pytest.mark.parametrize("state", ["completed", "killed", "running"])
def test_what_is_over_or_running_is_not_begun_again(tmp_path, state):
    folder = pending(tmp_path)
    (folder / "training_status.json").write_text(json.dumps({"state": state}))
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(SpecError, match="trainer abort exp-001" if state == "running" else "--parent exp-001"):
        execute(folder, python("write()"))
    assert sorted(path.name for path in folder.iterdir()) == before


def test_without_a_metric_nothing_can_be_judged(tmp_path):
    with pytest.raises(SpecError, match="name of the metric that counts, and its direction"):
        execute(pending(tmp_path, metric={}), python("write()"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["exec", "exp-001"], "no COMMAND"),
        (["exec", "exp-001", "--"], "no COMMAND"),
        (["exec", "exp-002", "--", "true"], "did you mean exp-001?"),
    ],
    ids=["no-command", "nothing-after-the-dashes", "unknown"],
)
def test_a_wrong_call_is_explained(tmp_path, capsys, words, said):
    pending(tmp_path)
    end = words.index("--") if "--" in words else len(words)
    assert main([*words[:end], "--experiments", str(tmp_path), *words[end:]]) == 2
    assert said in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ as a process of its own


def started(folder, *command):
    words = [sys.executable, "-m", "trainer", "exec", str(folder), "--", *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.fixture
def family(tmp_path):
    """`trainer exec` with a program that has two others work for it, all of them at work."""
    folder = pending(tmp_path)
    process = started(folder, *python(FAMILY + WAIT))
    wait_until(lambda: (folder / "training_status.json").exists() and len(marked(state_of(folder)["run_id"])) == 3)
    yield folder, process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
@pytest.mark.skipif(signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="a shell's background job ignores SIGINT")
def test_a_signal_ends_all_of_it_in_good_order(family, signum):
    folder, process = family
    process.send_signal(signum)
    assert process.wait(60) == Exit.STOPPED
    assert state_of(folder)["state"] == "killed"
    assert f"asked to stop by signal: {signum.name} received" in state_of(folder)["notes"]
    assert left_behind(folder) == []


def test_killed_itself_it_leaves_no_process_and_no_spec(family):
    folder, process = family
    process.kill()
    wait_until(lambda: left_behind(folder) == [])
    assert state_of(folder)["state"] == "running"  # nobody was left to say more; a checker tells of a crash
    assert main(["abort", str(folder), "--reason", "killed in a test"]) == 0
    assert (state_of(folder)["state"], state_of(folder)["error"]) == ("aborted", "killed in a test")


def test_a_request_in_the_status_file_reaches_the_program(family):
    folder, process = family
    status = state_of(folder)
    assert status["process"]["pid"] in marked(status["run_id"])
    with pytest.raises(SpecError, match="is being trained by process"):
        execute(folder, ["true"])
    assert main(["abort", str(folder)]) == 2  # it lives
    request_kill(StatusFile(folder), Kill(id="k", reason="enough", requested_by="checker", run_id=status["run_id"]))
    assert process.wait(60) == Exit.STOPPED
    status = state_of(folder)
    assert (status["state"], status["ack"]["id"], status["kill"]["reason"]) == ("killed", "k", "enough")
    assert left_behind(folder) == []


def test_a_reader_that_goes_away_stops_nothing(tmp_path):
    folder = pending(tmp_path)
    process = started(folder, *python("for _ in range(1000): print('x' * 100)\nwrite()"))
    process.stdout.close()
    assert process.wait(60) == Exit.FINISHED
    assert (state_of(folder)["state"], left_behind(folder)) == ("completed", [])


FLOOD = """
line = b"x" * 99 + b"\\n"
for _ in range(200): os.write(1, line * 10_000)
os.write(2, b"the last word\\n")
write()
"""


def test_200_megabytes_of_output_cost_no_memory(tmp_path):
    folder = pending(tmp_path)
    code = (
        "import sys; from trainer.cli import main; from pathlib import Path; code = main(sys.argv[1:]); "
        "Path(sys.argv[2], 'memory').write_text(Path('/proc/self/status').read_text()); sys.exit(code)"
    )
    words = [sys.executable, "-c", code, "exec", str(folder), "--", *python(FLOOD)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(os.devnull, "wb") as nothing:
        done = subprocess.run(
            words, cwd=ROOT, env=environment, stdout=nothing, stderr=nothing, timeout=120, check=False
        )
    assert done.returncode == 0
    peak = re.search(r"VmHWM:\s+(\d+) kB", (folder / "memory").read_text())[1]
    assert int(peak) < 60_000  # a Python with this program in it takes 25 MB
    log = (folder / "output.log").read_bytes()
    assert re.match(rb"\xe2\x80\xa6 [\d,]+ bytes before this were not kept\n", log)
    assert len(log) < 1_100_000
    assert b"the last word" in log
    assert math.isclose(json.loads((folder / "result.json").read_text())["primary_metric"]["value"], 0.25)
