import os
import time

import pytest

from checker import watch
from checker.watch import Alarm, folders


def run(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("metrics.jsonl",):
        (folder / name).write_text("{}\n")
    return folder


@pytest.fixture
def alarm(tmp_path):
    """A started alarm that hardly ever polls, so what wakes it is the kernel."""
    alarm = Alarm(tmp_path, poll=600)
    alarm.start()
    assert alarm.trouble is None
    alarm.wait(0)
    yield alarm
    alarm.stop()


def woken(alarm, folder, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if folder in alarm.wait(0.2):
            return True
    return False


def test_a_new_folder_an_append_and_a_rename_wake(tmp_path, alarm):
    folder = run(tmp_path / "exp-1")
    assert woken(alarm, folder)
    alarm.wait(0.2)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("{}\n")
    assert woken(alarm, folder)
    alarm.wait(0.2)
    (folder / ".x.tmp").write_text("{}")
    (folder / ".x.tmp").rename(folder / "training_status.json")
    assert woken(alarm, folder)


def test_reading_and_our_own_reports_do_not_wake(tmp_path, alarm):
    folder = run(tmp_path / "exp-1")
    assert woken(alarm, folder)
    while alarm.wait(0.3):
        pass
    (folder / "metrics.jsonl").read_bytes()
    (folder / "diagnosis.md").write_text("x")
    (folder / "findings.jsonl").write_text("x")
    assert alarm.wait(0.3) == set()


def test_ring_ends_a_wait(alarm):
    alarm.ring()
    began = time.monotonic()
    alarm.wait(30)
    assert time.monotonic() - began < 5


def test_many_changes_are_one_entry(tmp_path):
    alarm = Alarm(tmp_path, poll=600)
    for _ in range(1000):
        alarm._put(tmp_path / "exp-1")
    assert alarm._queue.qsize() == 1


def test_without_notifications_the_poll_finds_everything(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(watch.Observer, "schedule", full)
    alarm = Alarm(tmp_path, poll=0.01)
    alarm.start()
    assert "inotify watch limit reached" in alarm.trouble
    folder = run(tmp_path / "exp-1")
    assert woken(alarm, folder)
    os.utime(folder / "metrics.jsonl", ns=(1, 1))
    assert woken(alarm, folder)
    (folder / "metrics.jsonl").unlink()
    assert woken(alarm, folder)
    assert alarm.look() == set()
    alarm.stop()


def test_run_folders_are_found_two_levels_deep_and_not_inside_one_another(tmp_path):
    wanted = {run(tmp_path / "a", "experiment.json"), run(tmp_path / "zoo" / "b", "training_status.json")}
    run(tmp_path / "a" / "checkpoints")
    run(tmp_path / "x" / "y" / "z")
    run(tmp_path / ".hidden")
    (tmp_path / "file").write_text("")
    assert set(folders(tmp_path)) == wanted
    assert list(folders(run(tmp_path))) == [tmp_path]


def test_a_folder_that_cannot_be_read_is_no_error(tmp_path):
    assert list(folders(tmp_path / "missing")) == []
    assert watch._stamp(tmp_path / "missing") is None
