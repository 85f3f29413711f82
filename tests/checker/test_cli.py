import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from folders import Folder, Watcher, gone_process

import contract
from checker import show, summary
from checker.clean import clean
from checker.finding import Severity
from checker.journal import Journal
from checker.tail import fingerprint
from checker.terms import Mode, Notice

ROOT = Path(__file__).resolve().parents[2]


def healthy(tmp_path):
    return Folder(tmp_path / "good").rows(*[2.0] * 20).status("completed")


def sick(tmp_path):
    return Folder(tmp_path / "bad").rows(*[2.0] * 20, "NaN").status("killed")


WRONG = {
    "no command": [],
    "unknown command": ["watsch"],
    "no folder": ["watch"],
    "no such folder": ["watch", "/nowhere/at/all"],
    "a file": ["watch", __file__],
    "a poll that is none": ["watch", ".", "--poll", "abc"],
    "a poll that never comes": ["watch", ".", "--poll", "0"],
    "a pid that is none": ["watch", ".", "--while-pid", "-1"],
    "a pid that is a word": ["watch", ".", "--while-pid", "abc"],
    "kill without a reason": ["kill", "."],
    "kill without a run": ["kill", "/nowhere", "--reason", "x"],
    "replay of nothing": ["replay"],
    "replay of what is not there": ["replay", "/nowhere.jsonl"],
    "replay of a folder without metrics": ["replay", "/"],
    "once without runs": ["once", "/proc/self/task"],
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_done_is_one_sentence_and_exit_2(call, arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("checker")


def test_replay_says_what_would_have_happened(call, tmp_path):
    code, out, err = call("replay", sick(tmp_path).path, healthy(tmp_path).path / contract.METRICS)
    assert (code, err) == (0, "")
    assert "row 20 step 20 nonfinite critical kill  train_loss is nan, once" in out
    assert "verdict: stop, nonfinite at step 20" in out
    assert "verdict: let it run" in out
    assert "cannot judge: no learning_rate in the log: dead_lr" in out


def test_replay_as_json_is_one_object_per_line_and_a_bad_path_costs_only_itself(call, tmp_path):
    missing, folder = tmp_path / "missing", tmp_path / "empty"
    folder.mkdir()
    code, out, err = call("replay", "--json", missing, sick(tmp_path).path, folder, healthy(tmp_path).path)
    assert code == 2
    first, second = map(json.loads, out.splitlines())
    assert first["verdict"] == {"kill": True, "rule": "nonfinite", "row": 20, "step": 20}
    assert second["verdict"]["kill"] is False
    assert [line.startswith("checker: ") for line in err.splitlines()] == [True, True]
    assert f"{folder}: a folder without metrics.jsonl" in err


def test_replay_of_an_unreadable_file_is_a_sentence(call, tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    code, _, err = call("replay", tmp_path)
    assert code == 2
    assert "metrics.jsonl is a pipe, not a regular file" in err


def test_a_number_that_is_none_is_called_by_its_name(call):
    assert "'abc' is not a number of seconds" in call("watch", ".", "--poll", "abc")[2]


def test_replay_lists_the_first_unreadable_lines(call, tmp_path):
    folder = healthy(tmp_path)
    with (folder.path / contract.METRICS).open("a") as file:
        file.write("x\n" * 150)
    code, out, _ = call("replay", folder.path)
    assert code == 0
    assert "20 rows, 150 unreadable lines" in out
    assert [int(line) for line in re.findall(r"metrics\.jsonl:(\d+): \S", out)] == [21, 22, 23, 24, 25]
    assert "… and 145 more" in out
    document = json.loads(call("replay", "--json", folder.path)[1])
    assert document["unreadable"] == 150
    assert [bad["line"] for bad in document["unreadable_lines"]] == list(range(21, 121))
    assert all(bad["reason"] for bad in document["unreadable_lines"])


@pytest.mark.parametrize("data", [b"", b"\n\n", b"x\ny\n"], ids=["empty", "blank", "garbage"])
def test_replay_of_a_file_without_rows_is_a_sentence_and_exit_2(call, tmp_path, data):
    path = tmp_path / "log.jsonl"
    path.write_bytes(data)
    code, out, err = call("replay", path)
    assert (code, out) == (2, "")
    assert "log.jsonl: no readable row" in err
    assert len(err.splitlines()) == 1


def test_once_judges_without_stopping_and_its_exit_code_is_the_verdict(call, tmp_path):
    root = tmp_path / "runs"
    healthy(root)
    assert call("once", root)[0] == 0
    Folder(root / "odd", start=time.time() - 21).rows(*[2.0] * 20, "Infinity").status()
    assert call("once", root)[0] == 1
    doomed = Folder(root / "doomed", start=time.time() - 21).rows(*[2.0] * 20, "NaN").status()
    code, out, _ = call("once", root)
    assert code == 2
    assert "3 runs, 2 open findings" in out
    assert doomed.told() == ["r1/nonfinite/0/critical"]
    assert "kill" not in doomed.document()
    assert doomed.acts() == []
    Watcher(doomed).turn()
    assert doomed.acts() == ["looked-again", "requested"]


def test_kill_writes_one_request_and_says_what_happens(call, tmp_path):
    folder = Folder(tmp_path / "exp").rows(2.0).status()
    code, out, _ = call("kill", folder.path, "--reason", "wrong data")
    assert code == 0
    assert out.startswith("asked exp to stop")
    kill = folder.document()["kill"]
    assert (kill["reason"], kill["requested_by"], kill["run_id"]) == ("wrong data", "person via checker", "r1")
    code, out, _ = call("kill", folder.path, "--reason", "again")
    assert (code, out) == (0, "person via checker had asked already: wrong data\n")
    assert folder.document()["kill"] == kill


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder.status("completed"), "the run is completed; there is nothing to stop"),
        (lambda folder: folder, "no training_status.json, so no trainer looks"),
        (lambda folder: (folder.path / contract.STATUS).write_text("{"), "nothing was asked"),
    ],
    ids=["over", "no status", "half-saved"],
)
def test_kill_of_what_cannot_be_killed(call, tmp_path, make, sentence):
    make(Folder(tmp_path / "exp").rows(2.0))
    code, _, err = call("kill", tmp_path / "exp", "--reason", "x")
    assert code == 2
    assert sentence in err


def test_status_is_one_table_running_runs_first(call, tmp_path):
    healthy(tmp_path)
    Folder(tmp_path / "new").rows(1.5).status(phase="train", total_steps=100)
    bad = sick(tmp_path)
    Watcher(bad, Mode.OBSERVE).turn()
    code, out, _ = call("status", tmp_path)
    assert code == 0
    names = re.findall(r"│ (new|good|bad)\b", out)
    assert names[0] == "new"
    assert set(names) == {"new", "good", "bad"}
    assert re.search(r"bad .*killed.*nan .*nonfinite", out)
    assert re.search(r"new .*running.*1/100.*train.*1\.5", out)


def test_status_of_odd_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / contract.STATUS).write_text("[]")
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / contract.METRICS)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / contract.FINDINGS).write_text('{"kind": "finding", "rule": [1], "severity": {}}\nx\n')
    (tmp_path / "c" / contract.EXPERIMENT).write_text("{}")
    assert [line.run for line in summary.lines(tmp_path)] == ["a", "b", "c"]


def test_a_finding_without_a_name_is_none(tmp_path):
    folder = healthy(tmp_path)
    (folder.path / contract.FINDINGS).write_text('{"kind": "finding"}\n{"kind": "finding", "rule": 7}\nx\n')
    assert summary.lines(tmp_path)[0].findings == "-"


@pytest.mark.parametrize("act", ["sigterm", "sigkill"])
@pytest.mark.parametrize("same", [True, False], ids=["this process", "an earlier one"])
def test_who_died_of_our_signal_was_killed(tmp_path, act, same):
    named = gone_process()
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 20, "NaN").status(process=named)
    asked = asdict(named if same else replace(named, started=1))
    journal = Journal(folder.path)
    journal.write("file", {"fingerprint": fingerprint(folder.path / contract.METRICS)})
    for fields in ({"act": "requested", "kill": "k", "run_id": "r1", "process": asked}, {"act": act}):
        journal.write("act", {"finding": "r1/nonfinite/0/critical", "rule": "nonfinite", "text": "", **fields})
    state = "killed" if same else "process gone"
    assert summary.lines(tmp_path)[0].state == state
    assert show.row(Watcher(folder).turn().run).state == state


HOSTILE = "\x1b]0;owned\x07\x1b[2Jred\x1b[31m [bold]x[/]\r\n\u202egpj\x9b5n\x00"


def test_a_log_cannot_steer_the_terminal(call, tmp_path):
    assert clean(HOSTILE) == "red [bold]x[/] gpj"
    line = show.line(Notice(HOSTILE, HOSTILE, Severity.CRITICAL, HOSTILE))
    assert not set(line) & set("\x1b\r\n\x07\x9b\x00\u202e")
    folder = Folder(tmp_path / "exp", HOSTILE, time.time()).rows(2.0, phase=HOSTILE).status(phase=HOSTILE, step=HOSTILE)
    for arguments in (("status", tmp_path), ("replay", folder.path), ("once", tmp_path)):
        code, out, err = call(*arguments)
        assert code == 0
        assert not set(out + err) & set("\x1b\r\x07\x9b\x00\u202e")
        assert "[bold]x[/]" in out or arguments[0] != "status"


def test_help_is_there_at_once():
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "checker", "--help"], cwd=ROOT, capture_output=True, check=True)
    assert time.monotonic() - began < 1  # about 0.07 s on an idle machine; the promise is 0.3 s
    assert b"watch" in done.stdout
    heavy = ("watchdog", "rich", "pydantic_core")
    probe = f"import sys, checker.cli; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, check=True)
    assert loaded.stdout.strip() == b"[]"


def test_on_a_terminal_there_is_one_live_table(tmp_path):
    healthy(tmp_path)
    sick(tmp_path)
    child, screen = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.environ |= {"TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
        os.execv(sys.executable, [sys.executable, "-m", "checker", "watch", str(tmp_path)])
    seen, end = b"", time.monotonic() + 10
    while b"nonfinite" not in seen and time.monotonic() < end:
        seen += os.read(screen, 4096)
    os.kill(child, signal.SIGTERM)
    while True:
        try:
            seen += os.read(screen, 4096)
        except OSError:  # how Linux says that the other side of a terminal is closed
            break
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert re.search(rb"good.*completed", seen)
    assert re.search(rb"bad.*killed.*nonfinite", seen)


def test_the_table_fits_the_screen():
    lines = [show.Line(f"exp-{n}", "running", "1", "train", "2", "-", Severity.INFO, (0, -n)) for n in range(50)]
    table = show.table(lines, 10)
    assert table.row_count == 10
    names = [str(cell) for cell in table.columns[0].cells]
    assert names[0] == "exp-49"
    assert names[-1] == "… and 41 more"
