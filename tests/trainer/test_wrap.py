"""`checker run` and `trainer wrap`: programs that know nothing of us, as runs."""

import json
import os
import signal
import subprocess
import sys

import pytest
from processes import program, wait_until

from contract import Kill, StatusFile, now, request_kill
from trainer.cli import main

PYTHON = [sys.executable, "-S", "-c"]
PRINTS = "import time\nfor i in range(10**6): print(f'iter {i}: loss 2.0', flush=True); time.sleep(0.05)"
DEAF = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{PRINTS}"
SAVES = f"""
import signal, sys
def save(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, save)
{PRINTS}
"""


def state_of(folder):
    return json.loads((folder / "training_status.json").read_text())


def started(folder, *words):
    return program("checker", "run", "--folder", folder, *words)


def code_of(run):
    """Its exit code, once it has ended."""
    run.communicate(timeout=60)
    return run.returncode


def running(folder):
    return (folder / "training_status.json").exists() and state_of(folder)["phase"] == "fit"


def ask(folder, grace=30.0):
    kill = Kill(id="k", reason="enough", requested_by="person", requested_at=now(), grace_seconds=grace)
    assert request_kill(StatusFile(folder), kill)


# name: the program, exit code, state, what its error says
ENDINGS = {
    "it ends well": ("print('iter 1: loss 1.0')", 0, "completed", None),
    "it says nothing": ("pass", 0, "completed", None),
    "it fails": ("raise ValueError('boom')", 1, "failed", "exit code 1; last output: "),
    "it has a code of its own": ("raise SystemExit(7)", 7, "failed", "exit code 7"),
    "the system kills it": ("import os; os.kill(os.getpid(), 9)", 137, "failed", "ended by SIGKILL"),
}


@pytest.mark.parametrize(("lines", "code", "state", "error"), ENDINGS.values(), ids=ENDINGS)
def test_how_a_run_ends(tmp_path, capfd, lines, code, state, error):
    folder = tmp_path / "new" / "run"
    assert main(["wrap", str(folder), "--", *PYTHON, lines]) == code
    status = state_of(folder)
    assert (status["state"], status["is_training"], status["kill"]) == (state, False, None)
    assert error in status["error"] if error else status["error"] is None
    assert (folder / "output.log").read_text() in capfd.readouterr().out  # printed, and kept
    seen = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert seen == {"output.log", "training_status.json"}


def test_what_a_program_prints_is_kept_from_run_to_run(tmp_path, capfd):
    for word in ("first", "second"):
        assert main(["wrap", str(tmp_path), "--", *PYTHON, f"print('{word}')"]) == 0
    assert (tmp_path / "output.log").read_text().split() == ["first", "second"]
    assert capfd.readouterr().out.count("first\n") == 1


def test_a_request_reaches_a_program_that_knows_nothing(tmp_path):
    run = started(tmp_path, "--", *PYTHON, PRINTS)
    wait_until(lambda: running(tmp_path))
    ask(tmp_path)
    assert code_of(run) == 3
    status = state_of(tmp_path)
    assert (status["state"], status["ack"]["id"]) == ("killed", "k")
    assert "ended by SIGTERM" in status["notes"][-1]


def test_a_deaf_program_is_ended_after_the_grace(tmp_path):
    run = started(tmp_path, "--", *PYTHON, DEAF)
    wait_until(lambda: running(tmp_path))
    ask(tmp_path, grace=0.5)
    assert code_of(run) == 3
    assert "ended by SIGKILL" in state_of(tmp_path)["notes"][-1]


def test_it_is_asked_by_the_signal_that_it_understands(tmp_path):
    run = started(tmp_path, "--stop-signal", "INT", "--", *PYTHON, SAVES)
    wait_until(lambda: running(tmp_path) and "iter" in (tmp_path / "output.log").read_text())
    run.send_signal(signal.SIGTERM)  # whoever stops us stops the program
    assert code_of(run) == 3
    assert (tmp_path / "output.log").read_text().endswith("saved\n")
    assert state_of(tmp_path)["state"] == "killed"


def test_a_killed_follower_leaves_the_program_alone(tmp_path):
    run = started(tmp_path, "--", *PYTHON, PRINTS)
    wait_until(lambda: running(tmp_path))
    pid = state_of(tmp_path)["process"]["pid"]
    try:
        run.kill()
        run.communicate()
        size = (tmp_path / "output.log").stat().st_size
        wait_until(lambda: (tmp_path / "output.log").stat().st_size > size)  # it goes on, and so does its output
        assert main(["wrap", str(tmp_path), "--", *PYTHON, "pass"]) == 2  # and the folder is still its own
    finally:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: main(["wrap", str(tmp_path), "--", *PYTHON, "pass"]) == 0)


@pytest.fixture
def stranger():
    """A process that somebody else has started."""
    child = subprocess.Popen([*PYTHON, "import time; time.sleep(600)"])
    yield child
    child.kill()
    child.wait()


def test_a_process_that_runs_already_is_followed_to_its_end(tmp_path, stranger):
    run = started(tmp_path, "--pid", stranger.pid)
    wait_until(lambda: running(tmp_path))
    assert state_of(tmp_path)["process"]["pid"] == stranger.pid
    stranger.kill()
    stranger.wait()
    assert code_of(run) == 0
    status = state_of(tmp_path)
    assert (status["state"], status["error"]) == ("completed", None)
    assert "only its parent knows" in status["notes"][-1]


def test_a_process_that_runs_already_is_stopped_on_request(tmp_path, stranger):
    run = started(tmp_path, "--pid", stranger.pid)
    wait_until(lambda: running(tmp_path))
    ask(tmp_path)
    assert stranger.wait(30) == -signal.SIGTERM
    assert code_of(run) == 3
    assert state_of(tmp_path)["state"] == "killed"


def no_process():
    child = subprocess.Popen([*PYTHON, "pass"])
    child.wait()
    return str(child.pid)


# name: arguments after the folder, what is said
MISTAKES = {
    "nothing to do": ([], "either what to run"),
    "too much to do": (["--pid", "2", "--", "true"], "either what to run"),
    "no such program": (["--", "./does-not-exist"], "cannot be begun"),
    "no such process": (["--pid", no_process()], "no process that could be followed"),
    "init": (["--pid", "1"], "no process that could be followed"),
    "itself": (["--pid", str(os.getpid())], "no process that could be followed"),
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(tmp_path, capsys, words, said):
    assert main(["wrap", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_checker_stops_a_program_whose_printed_loss_is_nan(tmp_path):
    lines = PRINTS.replace(
        "print(f'iter {i}: loss 2.0', flush=True)",
        "print(f'iter {i}: loss', 2.0 - i / 100 if i < 30 else 'nan', flush=True)",
    )
    watch = program("checker", "watch", tmp_path, "--poll", "0.2")
    run = started(tmp_path / "run", "--", *PYTHON, lines)
    try:
        assert code_of(run) == 3
        wait_until(
            lambda: (
                (tmp_path / "run" / "diagnosis.md").exists()
                and "nonfinite" in (tmp_path / "run" / "diagnosis.md").read_text()
            )
        )
    finally:
        run.terminate()  # nothing to do where it has been stopped, as it should
        watch.terminate()
        said = watch.communicate(timeout=20)[0]
    assert "nonfinite critical" in said
    assert state_of(tmp_path / "run")["state"] == "killed"
