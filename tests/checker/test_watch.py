import os
import tempfile
import time
from pathlib import Path

import pytest
from processes import as_nobody

from checker import places, watch
from checker.inotify import Inotify, Overflow
from checker.mounts import Mount
from checker.observer import Tree
from checker.places import FOLDER, PLAN, ROWS, STATE, folders
from checker.watch import Alarm


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
    assert alarm.troubles() == []
    alarm.wait(0)
    yield alarm
    alarm.stop()


def woken(alarm, folder, seconds=5.0):
    """What was touched in the folder, once it was; 0 when nothing came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        touched = alarm.wait(0.2).get(folder)
        if touched:
            return touched
    return 0


def settle(alarm):
    while alarm.wait(0.1):
        pass


def append(path):
    with path.open("a") as file:
        file.write("{}\n")


# --------------------------------------------------------------------------------------------------- announcements


def test_a_new_folder_an_append_and_a_rename_wake(tmp_path, alarm):
    folder = run(tmp_path / "exp-1")
    assert woken(alarm, folder)
    settle(alarm)
    append(folder / "metrics.jsonl")
    assert woken(alarm, folder) == ROWS
    settle(alarm)
    (folder / ".x.tmp").write_text("{}")
    (folder / ".x.tmp").rename(folder / "training_status.json")
    assert woken(alarm, folder) == STATE
    settle(alarm)
    append(folder / "experiment.json")
    assert woken(alarm, folder) == PLAN


def test_reading_and_our_own_reports_do_not_wake(tmp_path, alarm):
    folder = run(tmp_path / "exp-1")
    assert woken(alarm, folder)
    settle(alarm)
    (folder / "metrics.jsonl").read_bytes()
    (folder / "diagnosis.md").write_text("x")
    (folder / "findings.jsonl").write_text("x")
    (folder / "checkpoints").mkdir()
    (tmp_path / "CHECKLIST.md").write_text("x")
    assert alarm.wait(0.3) == {}


@pytest.mark.parametrize("depth", ["exp-1", "zoo/exp-1"])
def test_a_run_folder_that_is_made_bit_by_bit(tmp_path, alarm, depth):
    folder = tmp_path / depth
    folder.mkdir(parents=True)
    settle(alarm)
    append(folder / "metrics.jsonl")
    assert woken(alarm, folder)
    settle(alarm)
    append(folder / "metrics.jsonl")
    assert woken(alarm, folder) == ROWS


def test_a_folder_that_is_moved_in_and_one_that_is_linked(tmp_path, alarm):
    elsewhere = tmp_path / ".elsewhere"
    moved, linked = run(elsewhere / "moved"), run(elsewhere / "linked")
    settle(alarm)
    moved.rename(tmp_path / "moved")
    assert woken(alarm, tmp_path / "moved")
    (tmp_path / "link").symlink_to(linked)
    assert woken(alarm, tmp_path / "link")
    settle(alarm)
    append(linked / "metrics.jsonl")
    assert woken(alarm, tmp_path / "link") == ROWS


def test_a_folder_that_goes_and_comes_again_under_the_same_name(tmp_path, alarm):
    folder = run(tmp_path / "exp-1")
    settle(alarm)
    (folder / "metrics.jsonl").unlink()
    folder.rmdir()
    assert woken(alarm, folder)
    settle(alarm)
    run(folder)
    assert woken(alarm, folder)
    settle(alarm)
    append(folder / "metrics.jsonl")
    assert woken(alarm, folder) == ROWS
    settle(alarm)
    folder.rename(tmp_path / "renamed")
    run(folder)
    assert woken(alarm, tmp_path / "renamed")
    settle(alarm)
    append(folder / "metrics.jsonl")
    assert woken(alarm, folder) == ROWS


def test_ring_ends_a_wait(alarm):
    alarm.ring()
    began = time.monotonic()
    alarm.wait(30)
    assert time.monotonic() - began < 5


def test_many_changes_are_one_entry(tmp_path, alarm):
    folders = [run(tmp_path / f"exp-{number}") for number in range(3)]
    settle(alarm)
    for _ in range(1000):
        for folder in folders:
            append(folder / "metrics.jsonl")
    assert alarm.wait(5) == dict.fromkeys(folders, ROWS)


def test_lost_notifications_are_made_up_for_by_looking(tmp_path, alarm, monkeypatch):
    folder = run(tmp_path / "exp-1")
    settle(alarm)
    append(folder / "metrics.jsonl")

    def overflow(*_):
        raise Overflow

    monkeypatch.setattr(alarm._ears, "wait", overflow)
    assert list(alarm.wait(0)) == [folder]


def test_an_overflow_of_the_kernels_queue_is_noticed(tmp_path):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    ears = Inotify()
    try:
        ears.add(tmp_path)
        for _ in range(limit // 2 + 1):  # a file that comes and goes is two notifications
            (tmp_path / "x").touch()
            (tmp_path / "x").unlink()
        with pytest.raises(Overflow):
            ears.wait(1)
    finally:
        ears.close()


def test_watchdog_does_the_same_elsewhere(tmp_path):
    folder = run(tmp_path / "exp-1")
    ears = Tree(tmp_path)
    try:
        end = time.monotonic() + 5
        touched = 0
        while not touched & ROWS and time.monotonic() < end:
            append(folder / "metrics.jsonl")
            touched = ears.wait(0.2).get(folder, 0)
        assert touched & ROWS
        (tmp_path / "exp-2").mkdir()
        while FOLDER not in ears.wait(0.2).values() and time.monotonic() < end:
            pass
        ears.ring()
    finally:
        ears.close()


# --------------------------------------------------------------------------------------------------------- looking


def test_without_notifications_the_poll_finds_everything(tmp_path, monkeypatch):
    def full(_):
        raise OSError(24, "too many instances")

    monkeypatch.setattr(watch, "ears", full)
    alarm = Alarm(tmp_path, poll=0.01)
    alarm.start()
    assert ["too many instances" in trouble for trouble in alarm.troubles()] == [True]
    assert alarm.troubles() == []
    folder = run(tmp_path / "exp-1")
    assert woken(alarm, folder)
    os.utime(folder / "metrics.jsonl", ns=(1, 1))
    assert woken(alarm, folder)
    (folder / "metrics.jsonl").unlink()
    assert woken(alarm, folder)
    assert alarm.look() == {}
    alarm.stop()


def test_folders_for_which_there_is_no_watch_are_looked_at(tmp_path, monkeypatch):
    add = Inotify.add

    def two_at_most(ears, folder):
        if folder not in ears._watches and len(ears._watches) >= 2:
            raise OSError(28, "no space left on device")
        add(ears, folder)

    monkeypatch.setattr(Inotify, "add", two_at_most)
    heard, deaf = run(tmp_path / "exp-1"), run(tmp_path / "exp-2")
    alarm = Alarm(tmp_path, poll=0.01)
    alarm.start()
    alarm.wait(0)
    assert ["no inotify watches left" in trouble for trouble in alarm.troubles()] == [True]
    settle(alarm)
    for folder in (heard, deaf):
        append(folder / "metrics.jsonl")
        assert woken(alarm, folder)
    alarm.rest(heard)  # a finished run gives its watch to one that goes on
    alarm._deaf.clear()
    alarm._listen(deaf)
    assert set(alarm._ears._watches) == {tmp_path, deaf}
    assert alarm.troubles() == []
    alarm.stop()


def test_a_log_that_changes_without_a_word_is_looked_at_from_then_on(tmp_path):
    log = tmp_path / ".scratch.jsonl"
    log.write_text("{}\n")
    folder = tmp_path / "exp-1"
    folder.mkdir()
    (folder / "metrics.jsonl").symlink_to(log)
    alarm = Alarm(tmp_path, poll=0.01)
    alarm.start()
    settle(alarm)
    append(log)
    assert woken(alarm, folder, 60)  # found when it is the folder's turn to be looked at all the same
    end = time.monotonic() + 5
    troubles = []
    while not troubles and time.monotonic() < end:
        alarm.wait(0.02)
        troubles += alarm.troubles()
    assert ["exp-1 changes without a notification" in trouble for trouble in troubles] == [True]
    for _ in range(3):
        append(log)
        assert woken(alarm, folder, 1)
    alarm.stop()


def test_what_is_announced_is_never_taken_for_deaf(tmp_path):
    folder = run(tmp_path / "exp-1")
    alarm = Alarm(tmp_path, poll=0.001)
    alarm.start()
    for _ in range(500):
        append(folder / "metrics.jsonl")
        alarm.wait(0.001)
    assert alarm.troubles() == []
    assert alarm._deaf == set()
    alarm.stop()


def test_all_are_looked_at_within_their_time(tmp_path):
    alarm = Alarm(tmp_path, poll=1.0)
    alarm._known = {tmp_path / str(number): 0 for number in range(1000)}
    alarm._resting = {tmp_path / str(number) for number in range(900)}
    seen = [list(alarm._slice()) for _ in range(31)]
    live = [folder for turn in seen for folder in turn if folder not in alarm._resting]
    assert len(set(live)) == 100
    assert max(map(len, seen)) <= 4 + 4
    more = [folder for _ in range(300) for folder in alarm._slice()]
    assert set(more) == alarm._known.keys()


def test_on_a_network_disk_everything_is_looked_at_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "mount", lambda _: Mount("nfs4", "/"))
    folder = run(tmp_path / "exp-1")
    alarm = Alarm(tmp_path, poll=0.05)
    alarm.start()
    assert ["file system nfs4" in trouble for trouble in alarm.troubles()] == [True]
    settle(alarm)
    monkeypatch.setattr(alarm._ears, "wait", lambda seconds: time.sleep(max(0, seconds)) or {})
    append(folder / "metrics.jsonl")
    assert woken(alarm, folder, 5)
    alarm.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("mode", [0o444, 0o000, 0o111], ids=["cannot be entered", "nothing", "cannot be listed"])
def test_a_folder_without_rights_costs_nobody_the_alarm(mode):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        root.chmod(0o777)
        well, shut = run(root / "well"), run(root / "group" / "exp").parent
        shut.chmod(mode)
        alarm = Alarm(root, poll=0.01)
        with as_nobody():
            alarm.start()
            assert well in alarm.look()
            list(folders(root))
        append(well / "metrics.jsonl")
        with as_nobody():
            assert woken(alarm, well)
        shut.chmod(0o755)
        with as_nobody():
            assert woken(alarm, shut / "exp")
        alarm.stop()


# ---------------------------------------------------------------------------------------------------------- places


def test_run_folders_are_found_two_levels_deep_and_not_inside_one_another(tmp_path):
    wanted = {run(tmp_path / "a", "experiment.json"), run(tmp_path / "zoo" / "b", "training_status.json")}
    run(tmp_path / "a" / "checkpoints")
    run(tmp_path / "x" / "y" / "z")
    run(tmp_path / ".hidden")
    (tmp_path / "file").write_text("")
    assert set(folders(tmp_path)) == wanted
    assert set(Alarm(tmp_path).look()) == wanted
    assert list(folders(run(tmp_path))) == [tmp_path]
    assert list(Alarm(tmp_path).look()) == [tmp_path]


def test_a_folder_that_cannot_be_read_is_no_error(tmp_path):
    assert list(folders(tmp_path / "missing")) == []
    assert places.look(tmp_path / "missing") == places.look(tmp_path / "missing too")
