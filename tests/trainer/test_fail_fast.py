"""`--fail-fast`: a run with a checker of its own, which stops it as soon as it is doomed, and then is gone."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import program, wait_until

from contract import Watcher, process_started, watcher
from trainer import fail_fast
from trainer.cli import main

ROOT = Path(__file__).parents[2]

DOOMED = """
[model]
layers = 1
heads = 2
width = 16
context = 16
[data]
max_bytes = 4000
val_bytes = 500
[optimizer]
kind = "sgd"
lr = 1e6
[train]
steps = 1000000
batch_size = 4
clip_norm = 0.0
eval_every = 0
"""


def test_a_doomed_run_is_stopped_by_a_checker_of_its_own_which_then_goes(tmp_path, read_status):
    (tmp_path / "doomed.toml").write_text(DOOMED)
    root = tmp_path / "e"
    run = program("trainer", "run", tmp_path / "doomed.toml", "--fail-fast", "--experiments", root)
    said, _ = run.communicate(timeout=120)
    folder = root / "exp-001"
    assert run.returncode == 3, said
    status = read_status(folder)
    assert (status["state"], status["kill"]["requested_by"]) == ("killed", "checker")
    note = next(note for note in status["notes"] if note.startswith("a checker watches this run"))
    pid = int(note.rpartition(" ")[2].rstrip(")"))
    wait_until(lambda: process_started(pid) is None)
    assert watcher(folder) is None
    assert "**nonfinite** (critical)" in (folder / "diagnosis.md").read_text()
    assert "exp-001" in (root / "CHECKLIST.md").read_text()


@pytest.mark.slow
def test_beside_a_checker_that_watches_already_none_is_started(tmp_path, small_toml):
    root = tmp_path / "e"
    root.mkdir()
    daemon = program("checker", "watch", root)
    try:
        wait_until(lambda: watcher(root))
        run = program("trainer", "run", small_toml, "--fail-fast", "--experiments", root)
        said, _ = run.communicate(timeout=120)
        assert run.returncode == 0, said
        assert f"a checker watches {root} already (process {daemon.pid} on " in said
        assert watcher(root / "exp-001") is None
    finally:
        daemon.terminate()
        daemon.communicate(timeout=60)


# ------------------------------------------------------------------------------------------------ without a process


def test_without_a_checker_nothing_is_created(tmp_path, small_toml, monkeypatch, capsys):
    monkeypatch.setattr(fail_fast.importlib.util, "find_spec", lambda name: None if name == "checker" else object())
    assert main(["run", str(small_toml), "--fail-fast", "--experiments", str(tmp_path / "e")]) == 2
    assert "--fail-fast: the checker is not installed here" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_the_checker_is_told_to_end_with_this_process(tmp_path, monkeypatch):
    started = []

    class Process:
        pid = 17

        def __init__(self, command, **named):
            started.append((command, named["start_new_session"]))

    monkeypatch.setattr(fail_fast.subprocess, "Popen", Process)
    assert fail_fast.start(tmp_path) == "a checker watches this run (process 17)"
    command = [sys.executable, "-m", "checker", "watch", str(tmp_path), "--while-pid", str(os.getpid())]
    assert started == [(command, True)]


@pytest.mark.parametrize("where", ["", ".."], ids=["this-folder", "the-one-above"])
def test_one_that_watches_already_is_enough(tmp_path, monkeypatch, where):
    folder = tmp_path / "exp-001"
    monkeypatch.setattr(fail_fast.subprocess, "Popen", None)
    watched = (folder / where).resolve()
    found = Watcher(pid=3, host="here")
    monkeypatch.setattr(fail_fast, "watcher", lambda root: found if root == watched else None)
    assert fail_fast.start(folder) == f"a checker watches {watched} already (process 3 on here)"


def test_one_that_hangs_above_is_not_relied_on_but_one_that_holds_this_folder_is_told(tmp_path, monkeypatch):
    folder = tmp_path / "exp-001"
    hangs = Watcher(pid=3, host="here", age=200.0)
    monkeypatch.setattr(fail_fast.subprocess, "Popen", lambda *_, **__: SimpleNamespace(pid=17))
    monkeypatch.setattr(fail_fast, "watcher", lambda root: hangs if root == tmp_path else None)
    assert fail_fast.start(folder) == "a checker watches this run (process 17)"
    monkeypatch.setattr(fail_fast, "watcher", lambda root: hangs if root == folder else None)
    assert fail_fast.start(folder).endswith("already (process 3 on here, but it has not looked for 3 min)")


def test_the_word_of_a_watcher_is_believed_while_it_holds_its_lock(tmp_path):
    (tmp_path / ".checker.lock").write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
    assert watcher(tmp_path) is None
