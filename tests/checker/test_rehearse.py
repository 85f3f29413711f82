"""The rehearsal: it says nothing where all is well, names what cannot work, and leaves nothing behind."""

import dataclasses
import errno
import os
import subprocess
import sys
import time

import pytest
from folders import Folder, gone_process
from processes import program

import contract
from checker import rehearse as module
from checker.finding import Severity
from checker.rehearse import rehearse
from checker.terms import Mode

HERE = contract.this_process()
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that")


@pytest.fixture(scope="module")
def ours():
    """A process that is ours to signal."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    yield dataclasses.replace(HERE, pid=child.pid, started=contract.process_started(child.pid))
    child.kill()
    child.wait()


def there(root):
    return sorted(os.path.join(place, name) for place, _, names in os.walk(root) for name in names)


def test_where_all_is_well_nothing_is_said_and_nothing_is_left(tmp_path, ours):
    Folder(tmp_path / "runs").status(process=ours)
    Folder(tmp_path / "done").status("completed", process=gone_process())
    Folder(tmp_path / "crashed").status(process=gone_process())
    Folder(tmp_path / "log only").rows(1.0)
    before = there(tmp_path), [(path, os.stat(path).st_mtime_ns) for path in there(tmp_path)]
    assert rehearse(tmp_path) == []
    assert before == (there(tmp_path), [(path, os.stat(path).st_mtime_ns) for path in there(tmp_path)])
    assert not [name for name in os.listdir(tmp_path) if name.startswith(module.HIDDEN)]


def test_a_run_folder_may_be_rehearsed_by_itself(tmp_path, ours):
    Folder(tmp_path).rows(1.0).status(process=ours)
    assert rehearse(tmp_path) == []


def test_it_is_quick(tmp_path):
    rehearse(tmp_path)  # loads what a daemon loads anyway
    used = time.process_time()
    rehearse(tmp_path)
    assert time.process_time() - used < 0.3


FORCED = "it can only be asked, not forced: "
RUNS = {
    "another host": ({"host": "elsewhere"}, f"{FORCED}the run is on host 'elsewhere'"),
    "another boot": ({"boot_id": "x"}, f"{FORCED}the run was started in another boot"),
    "no start time": ({"started": None}, f"{FORCED}the status file does not say when the process started"),
    "pid 1": ({"pid": 1}, f"{FORCED}pid 1 in the status file is not a process that could be training"),
    "the checker itself": (
        {"pid": HERE.pid, "started": HERE.started},
        f"{FORCED}its process is the checker itself or one that started it",
    ),
}


@pytest.mark.parametrize(("change", "told"), RUNS.values(), ids=RUNS.keys())
def test_a_run_that_could_not_be_forced_is_named(tmp_path, ours, change, told):
    Folder(tmp_path / "exp").status(process=dataclasses.replace(ours, **change))
    (notice,) = rehearse(tmp_path)
    assert notice.text.startswith(told)
    assert (notice.run, notice.severity, notice.rule) == ("exp", Severity.WARNING, "rehearsal")


def test_who_only_observes_is_told_of_no_runs(tmp_path):
    Folder(tmp_path / "exp").status(process=dataclasses.replace(HERE, host="elsewhere"))
    assert rehearse(tmp_path, Mode.OBSERVE) == []


def test_runs_with_one_trouble_are_one_line(tmp_path):
    for number in range(5):
        Folder(tmp_path / f"exp-{number}").status(process=dataclasses.replace(HERE, host="elsewhere"))
    (notice,) = rehearse(tmp_path)
    assert notice.text.startswith("5 runs (exp-0, exp-1, exp-2 and 2 more): it can only be asked")


def test_a_status_that_is_a_link_is_named(tmp_path):
    Folder(tmp_path / "exp").rows(1.0)
    (tmp_path / "exp" / contract.STATUS).symlink_to("/etc/passwd")
    (notice,) = rehearse(tmp_path)
    assert "a symbolic link, which is not followed: it cannot be asked to stop" in notice.text


@root_only
def test_a_run_whose_log_is_another_users_is_named(tmp_path, ours):
    folder = Folder(tmp_path / "exp").rows(1.0).status(process=ours)
    os.chown(folder.path / contract.METRICS, 4711, 4711)
    (notice,) = rehearse(tmp_path)
    assert "metrics.jsonl belongs to user 4711, who cannot name processes of user 0" in notice.text


def test_more_runs_than_there_is_time_for_are_counted(tmp_path, monkeypatch):
    for number in range(3):
        Folder(tmp_path / f"exp-{number}").rows(1.0)
    monkeypatch.setattr(module, "SECONDS", -1.0)
    (notice,) = rehearse(tmp_path)
    assert notice.text.startswith("3 more run folders were not rehearsed")


def refusing(error):
    def refuse(*_, **__):
        raise OSError(error, os.strerror(error))

    return refuse


BROKEN = {
    "a full disk": ("tempfile.mkdtemp", errno.ENOSPC, "cannot be written (No space left on device)", "critical"),
    "a read-only disk": ("tempfile.mkdtemp", errno.EROFS, "cannot be written (Read-only file system)", "critical"),
    "no locks": ("fcntl.flock", errno.ENOLCK, "this file system has no locks", "warning"),
    "no signals": ("signal.pidfd_send_signal", errno.EPERM, "signals cannot be sent here", "warning"),
    "a broken template": ("checker.report.render.page", errno.ENOENT, "reports cannot be written", "critical"),
    "a status that cannot be replaced": ("contract.request_kill", errno.EACCES, "could not be asked", "critical"),
}


@pytest.mark.parametrize(("what", "error", "told", "severity"), BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_work_is_named(tmp_path, monkeypatch, what, error, told, severity):
    monkeypatch.setattr(what, refusing(error))
    notice = rehearse(tmp_path)[0]
    assert told in notice.text
    assert notice.severity == severity
    assert os.listdir(tmp_path) == []


def test_files_that_cannot_be_exchanged_are_mentioned(tmp_path, monkeypatch):
    monkeypatch.setattr("contract.exchange", lambda *_: False)
    (notice,) = rehearse(tmp_path)
    assert "cannot be exchanged in one instant" in notice.text


def test_without_a_process_table_runs_are_asked_by_file(tmp_path, monkeypatch):
    monkeypatch.setattr("contract.process_started", lambda _: None)
    (notice,) = rehearse(tmp_path)
    assert "asked to stop through their status file only" in notice.text


def test_a_watch_tells_at_its_start(tmp_path):
    folder = Folder(tmp_path / "exp").rows(1.0).status(process=dataclasses.replace(HERE, host="elsewhere"))
    watch = program("checker", "watch", tmp_path, "--poll", "0.1", "--while-pid", gone_process().pid)
    told = watch.communicate(timeout=60)[0]
    assert "exp rehearsal warning → it can only be asked, not forced: the run is on host 'elsewhere'" in told
    assert folder.acts() == []
