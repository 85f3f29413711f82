"""Each fault that a disk, a machine, a trainer or a person may cause, as a test of its own.

Each asserts three things: the faulty run is told of once, in a clear sentence; a healthy and a doomed neighbour are
judged and stopped as if nothing had happened; and once the fault is gone the run is judged again. Which test belongs to
which fault stands in `tests/bench/results/faults.md`; a checker that is killed has `test_killed.py`, real signals and
limits have `test_real_daemon.py`, and noise in the files `test_noise.py`.
"""

import errno
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from folders import Folder, Watcher, gone_process, iso
from processes import ROOT, as_nobody
from scene import STOPPED, Scene, begun, can_mount, fill, mounted, once

import contract
from checker import cli, daemon, enforce, naps, show, summary, watch
from checker.reports import Reports
from checker.terms import Moment

MAY_MOUNT = can_mount()
needs_mount = pytest.mark.skipif(not MAY_MOUNT, reason="only root may mount a small disk, and many containers may not")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


# ------------------------------------------------------------------------------------------------------------ disks


@needs_mount
def test_disk_full_while_a_run_is_doomed(tmp_path):
    with mounted(tmp_path / "faulty"):
        scene = Scene(tmp_path).rounds()
        scene.faulty.rows("NaN", "NaN", "NaN")
        filler = fill(scene.faulty.path)
        scene.rounds(5)
        assert any("train_loss" in text or "loss is nan" in text for text in scene.said())  # told all the same
        once(scene.said(), "findings.jsonl cannot be written (No space left on device); the run is not touched")
        assert scene.faulty.journal() == []
        assert "kill" not in scene.faulty.document()  # no act without evidence
        scene.others_go_on()
        filler.unlink()
        scene.rounds(2)
        assert scene.faulty.acts() == STOPPED
        assert scene.faulty.told() == [f"{scene.faulty.run_id}/nonfinite/0/critical"]
        once(scene.said(), "findings.jsonl can be written again")
        assert len([text for text in scene.said() if "loss is nan" in text]) == 2  # the finding, and the request
        scene.watch.close()


@needs_mount
def test_disk_full_of_the_whole_root(tmp_path):
    with mounted(tmp_path / "root", "256k") as root:
        scene = Scene(root).rounds()
        for folder in (scene.faulty, scene.doomed):
            folder.rows("NaN")
        filler = fill(root)
        scene.rounds(4)
        assert scene.faulty.acts() == scene.doomed.acts() == []
        filler.unlink()
        scene.rounds(2)
        assert scene.faulty.acts() == scene.doomed.acts() == STOPPED
        assert scene.healthy.told() == []
        scene.watch.close()


@needs_mount
def test_disk_full_when_only_the_request_does_not_fit(tmp_path, monkeypatch):
    """The journal has room left in its last block, the new status file has none."""
    scene = Scene(tmp_path).rounds()
    beside = contract._write_beside

    def full(path, data, **named):
        if path == scene.faulty.path / contract.STATUS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return beside(path, data, **named)

    monkeypatch.setattr(contract, "_write_beside", full)
    monkeypatch.setattr(enforce, "RETRY_SECONDS", 0.0)
    scene.faulty.rows("NaN")
    began = time.monotonic()
    scene.rounds(20)
    assert time.monotonic() - began < 5
    assert scene.faulty.acts() == ["looked-again", "cannot"]
    once(scene.said(), "No space left on device")
    scene.others_go_on()
    monkeypatch.undo()
    monkeypatch.setattr(enforce, "RETRY_SECONDS", 0.0)
    scene.rounds(1)
    assert scene.faulty.acts() == ["looked-again", "cannot", "requested"]


def no_room(path, *_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_disk_full_does_not_save_a_run_that_was_asked(tmp_path, monkeypatch):
    """Its request vanished and cannot be written again: that ends no pursuit."""
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status(process=contract.this_process())
    watcher = Watcher(folder).turn()
    document = {key: value for key, value in folder.document().items() if key != "kill"}
    contract.replace(folder.path / contract.STATUS, contract.encode(document))
    monkeypatch.setattr(contract, "_write_beside", no_room)
    sent = []
    monkeypatch.setattr(enforce, "send_all", lambda did, *_, **named: (sent.append((did, named)), ([1], None))[1])
    watcher.turns(32)
    assert "reasserted" in folder.acts()
    assert folder.acts().count("sigterm") == 1
    assert [did for did, named in sent if not named.get("probe")] == ["sigterm"]


@needs_mount
def test_a_torn_entry_is_taken_back_and_written_whole(tmp_path):
    with mounted(tmp_path / "faulty"):
        scene = Scene(tmp_path).rounds()
        scene.faulty.rows("NaN")
        filler = fill(scene.faulty.path)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 4096)  # room for the beginning of a journal, not for all of it
        (scene.faulty.path / contract.FINDINGS).write_bytes(b'{"kind":"note","text":"' + b"x" * 3900 + b'"}\n')
        scene.rounds(4)
        assert len(scene.faulty.journal()) >= 1  # whole lines, or this raises
        filler.unlink()
        scene.rounds(2)
        assert scene.faulty.acts() == STOPPED
        scene.watch.close()


@needs_mount
def test_read_only_folder(tmp_path):
    with mounted(tmp_path / "faulty") as place:
        scene = Scene(tmp_path).rounds()
        scene.faulty.rows("NaN", "NaN", "NaN")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        scene.rounds(5)
        once(scene.said(), "findings.jsonl cannot be written (Read-only file system)")
        scene.others_go_on()
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        scene.rounds(2)
        assert scene.faulty.acts() == STOPPED
        scene.watch.close()


# ------------------------------------------------------------------------------------------------------- permissions


@pytest.fixture
def open_place():
    """A folder that another user may use."""
    place = Path(tempfile.mkdtemp())
    os.chown(place, 65534, 65534)
    yield place
    subprocess.run(["chmod", "-R", "u+rwx", place], check=True)
    shutil.rmtree(place)


DENIED = {
    "the folder": ("", 0o000, "training_status.json cannot be read: Permission denied"),
    "the folder, for writing": ("", 0o555, "findings.jsonl cannot be written (Permission denied)"),
    "metrics.jsonl": (contract.METRICS, 0o000, "metrics.jsonl cannot be read: Permission denied"),
    "training_status.json": (contract.STATUS, 0o000, "training_status.json cannot be read: Permission denied"),
}


@needs_root
@pytest.mark.parametrize(("name", "mode", "sentence"), DENIED.values(), ids=DENIED.keys())
def test_permission_denied(open_place, name, mode, sentence):
    with as_nobody():
        scene = Scene(open_place).rounds()
        place = scene.faulty.path / name
        before = place.stat().st_mode & 0o777
        if mode == 0o555:
            scene.faulty.rows("NaN", "NaN", "NaN")
        place.chmod(mode)
        contract.replace(scene.root / "x", b"")
        if name == contract.STATUS:
            os.utime(place)
        scene.rounds(2)
        for run in scene.watch.runs.values():
            run._trouble = (run._trouble[0], 0.0)  # it has lasted for long
        scene.rounds(4)
        once(scene.said(), sentence)
        assert "its folder is gone; no longer watched" not in scene.said()
        scene.others_go_on()
        place.chmod(before)
        scene.rounds(2)
        assert "metrics.jsonl was cut or replaced; judging again from the first row" not in scene.said()
        if mode == 0o555:
            assert scene.faulty.acts() == STOPPED
        else:
            scene.judged_again()
        scene.watch.close()


@needs_root
def test_permission_denied_from_the_beginning(open_place):
    with as_nobody():
        shut = open_place / "shut"
        begun(shut, "r1").rows("NaN")
        shut.chmod(0o000)
        scene = Scene(open_place).rounds()
        assert scene.told[0].run == "shut"
        assert "cannot be looked into (Permission denied)" in scene.told[0].text
        assert sum(notice.run == "shut" for notice in scene.told) == 1
        scene.others_go_on()
        shut.chmod(0o755)
        scene.rounds()
        assert Folder(shut).acts() == STOPPED


@needs_root
def test_a_log_that_could_not_be_read_at_first_is_no_other_log(open_place):
    with as_nobody():
        scene = Scene(open_place)
        scene.faulty.rows("NaN")
        scene.rounds()
        assert scene.faulty.acts() == STOPPED
        path = scene.faulty.path / contract.METRICS
        path.chmod(0o000)
        scene.open()  # another checker, which knows the run by its first row
        scene.told.clear()
        scene.rounds()
        once(scene.said(), "cannot be judged (PermissionError")
        scene.others_go_on()
        path.chmod(0o644)
        scene.rounds(5)
        scene.judged_again()  # told once, asked once, by the two of them


def test_a_plan_that_could_not_be_read_for_want_of_descriptors_still_counts(tmp_path, no_files):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    scene = Scene(tmp_path)
    contract.replace(scene.faulty.path / contract.EXPERIMENT, b'{"id": "faulty", "total_steps": 77}')
    taken = no_files()
    scene.rounds()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for fd in taken:
        os.close(fd)
    scene.rounds(5)
    assert not [text for text in scene.said() if "judging without it" in text]
    assert scene.watch.runs[scene.faulty.path].case.history.total_steps == 77
    scene.others_go_on()
    scene.judged_again()


@needs_root
def test_a_journal_that_nobody_may_read_is_not_begun_anew(open_place):
    with as_nobody():
        scene = Scene(open_place)
        path = scene.faulty.path / contract.FINDINGS
        path.write_text("")
        path.chmod(0o000)
        scene.faulty.rows("NaN")
        scene.rounds(4)
        once(scene.said(), "cannot be judged (PermissionError")
        assert "kill" not in scene.faulty.document()
        scene.others_go_on()
        path.chmod(0o644)
        scene.rounds(3)
        assert scene.faulty.acts() == STOPPED


# ---------------------------------------------------------------------------------------------------- descriptors


@pytest.fixture
def no_files():
    """Takes away every file descriptor but those in use, and gives them back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(free=0):
        used = max(map(int, os.listdir("/proc/self/fd")))
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1 + free, before[1]))
        try:
            while not free:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        return taken

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_file_descriptors_exhausted(tmp_path, no_files):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    scene = Scene(tmp_path).rounds()
    for folder in (scene.faulty, scene.healthy):
        folder.rows(1.9)
        folder.status(step=folder.step)
    scene.doomed.rows("NaN")
    taken = no_files()
    for _ in range(5):
        scene.rounds(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for fd in taken:
        os.close(fd)
    assert {*scene.watch.runs} == {scene.faulty.path, scene.healthy.path, scene.doomed.path}
    assert not [notice.text for notice in scene.told if "gone" in notice.text or "cannot be judged" in notice.text]
    once(scene.said(), "metrics.jsonl cannot be read: Too many open files")
    scene.rounds(2)
    assert scene.doomed.acts() == STOPPED  # no row is lost
    assert scene.watch.runs[scene.healthy.path].case.history.index == 10
    scene.judged_again()
    assert scene.healthy.told() == []


def test_file_descriptors_exhausted_before_the_first_status_was_read():
    """What Python loads at its first use would be missing for the rest of the daemon's life."""
    program = (
        "import os, resource, sys\n"
        "from pathlib import Path\n"
        "import contract\n"
        "limit = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))\n"
        "print(contract.decode_object(b'\\xef\\xbb\\xbf{}', 'x'))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, limit)\n"
        "print(contract.decode_object(b'{}', 'x'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert (done.stdout, done.stderr) == ("{}\n{}\n", "")


def test_file_descriptors_exhausted_are_no_reason_to_give_up_a_kill(tmp_path, no_files):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status(process=contract.this_process())
    watcher = Watcher(folder).turn()
    taken = no_files()
    watcher.turns(40)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for fd in taken:
        os.close(fd)
    assert folder.acts() == STOPPED
    watcher.turn(1)
    assert folder.acts() == [*STOPPED, "cannot"]  # this very process cannot be signalled: known now, not before


def test_a_thousand_finished_runs_hold_no_files_open(tmp_path, no_files):
    folders = [Folder(tmp_path / f"exp-{number}").rows(2.0, "NaN").status() for number in range(60)]
    scene = Scene(tmp_path)
    no_files(free=90)  # a run that is being stopped holds one
    scene.rounds_until_read()
    assert [folder.acts() for folder in folders] == [STOPPED] * 60
    for folder in folders:
        folder.status("killed")
    scene.rounds(5)
    open_ = len(os.listdir("/proc/self/fd"))
    scene.watch.close()
    assert open_ - len(os.listdir("/proc/self/fd")) < 5


def test_no_more_file_notifications(tmp_path, monkeypatch):
    def none_left():
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(watch, "Inotify", none_left)
    scene = Scene(tmp_path)
    scene.watch.run(until=lambda: True)
    assert "no file notifications" in scene.told[0].text
    scene.others_go_on()
    scene.judged_again()


# ------------------------------------------------------------------------------------------- folders that change


def begun_anew(scene):
    path = scene.faulty.path
    shutil.rmtree(path)
    scene.faulty = begun(path, "second")


def test_a_folder_deleted_and_made_again_between_two_looks(tmp_path):
    scene = Scene(tmp_path)
    scene.faulty.rows("NaN")
    scene.rounds()
    assert scene.faulty.acts() == STOPPED
    begun_anew(scene)
    scene.rounds()
    once(scene.said(), "metrics.jsonl was cut or replaced; judging again from the first row")
    scene.others_go_on()
    scene.judged_again()  # in the journal of the new folder


def test_a_folder_deleted_and_made_again_later(tmp_path):
    scene = Scene(tmp_path).rounds()
    shutil.rmtree(scene.faulty.path)
    scene.rounds(2)
    once(scene.said(), "its folder is gone; no longer watched")
    scene.others_go_on()
    scene.faulty = begun(scene.faulty.path, "second")
    scene.rounds()
    scene.judged_again()


def test_a_folder_replaced_by_a_file(tmp_path):
    scene = Scene(tmp_path).rounds()
    shutil.rmtree(scene.faulty.path)
    scene.faulty.path.write_text("I am a file now")
    scene.rounds()
    once(scene.said(), "its folder is gone; no longer watched")
    scene.others_go_on()
    scene.faulty.path.unlink()
    scene.faulty = scene.run("faulty")
    scene.rounds()
    scene.judged_again()


REWRITES = {
    "truncated": lambda path: path.write_bytes(b""),
    "cut in the middle": lambda path: os.truncate(path, path.stat().st_size // 2),
    "rotated": lambda path: (path.rename(f"{path}.1"), path.write_bytes(b"")),
    "replaced": lambda path: (
        (path.parent / "new").write_bytes(path.read_bytes() * 2),
        (path.parent / "new").rename(path),
    ),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES.keys())
def test_a_log_that_is(tmp_path, rewrite):
    scene = Scene(tmp_path).rounds()
    path = scene.faulty.path / contract.METRICS
    rewrite(path)
    scene.rounds(2)
    scene.others_go_on()
    with path.open("a") as file:
        file.write("\n")
    scene.faulty.rows(*[2.0] * 10)
    scene.rounds(2)
    once(scene.said(), "metrics.jsonl was cut or replaced; judging again from the first row")
    scene.judged_again()


# ------------------------------------------------------------------------------------------------------------ steps


def test_duplicated_and_out_of_order_steps(tmp_path):
    scene = Scene(tmp_path)
    for step in (3, 3, 3, 9, 8, 7, 0, 0, 12, 11, -1, 2**70, 5):
        with (scene.faulty.path / contract.METRICS).open("a") as file:
            file.write(json.dumps({"run_id": scene.faulty.run_id, "step": step, "metrics": {"loss": 1.9}}) + "\n")
    scene.rounds()
    assert scene.faulty.told() == []
    assert scene.watch.runs[scene.faulty.path].case.history.index == 22  # every row counts
    scene.others_go_on()
    scene.judged_again()


def test_a_resumed_run_is_not_stopped_for_its_past(tmp_path):
    scene = Scene(tmp_path)
    scene.faulty.rows("NaN")
    scene.rounds()
    assert scene.faulty.acts() == STOPPED
    document = {key: value for key, value in scene.faulty.document().items() if key != "kill"}
    contract.replace(scene.faulty.path / contract.STATUS, contract.encode({**document, "run_id": "resumed"}))
    scene.faulty.run_id = "resumed"
    scene.faulty.rows(*[2.0] * 20)
    scene.rounds(5)
    assert scene.faulty.acts() == [*STOPPED, "stopped"]
    assert "kill" not in scene.faulty.document()
    scene.others_go_on()
    scene.faulty.rows("NaN", "NaN", "NaN")
    scene.rounds(3)
    assert scene.faulty.acts() == [*STOPPED, "stopped", *STOPPED]
    assert scene.faulty.document()["kill"]["run_id"] == "resumed"
    assert len(set(scene.faulty.told())) == len(scene.faulty.told()) == 3  # of the second NaN first as a suspicion


def test_the_next_process_is_not_stopped_for_a_row_that_came_before_it(tmp_path):
    """Without run ids only the times and the process tell one attempt from the next."""
    folder = Folder(tmp_path / "exp", run_id=None).rows(*[2.0] * 10).status(process=contract.this_process())
    watcher = Watcher(folder).turn()
    folder.rows("NaN", 2.0)  # found, but not true at this moment: nobody is asked yet
    watcher.turn()
    assert folder.acts() == []
    folder.status(process=gone_process(), started_at=iso(folder.start + 5000))
    folder.status(process=contract.Process(**{**vars(contract.this_process()), "pid": os.getppid(), "started": 1}))
    folder.rows("NaN")
    watcher.turn()
    assert "requested" not in folder.acts()


# ------------------------------------------------------------------------------------------------------------ clocks


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0, 3.0e8], ids=["a day forward", "a day back", "years forward"])
def test_the_clock_jumps(tmp_path, monkeypatch, jump):
    now = time.time()
    scene = Scene(tmp_path)
    for folder in (scene.faulty, scene.healthy):
        folder.status(progress_at=iso(now), heartbeat_at=iso(now), started_at=iso(now - 30), phase="train")
    scene.rounds()
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + jump)
    for folder in (scene.faulty, scene.healthy, scene.doomed):
        folder.start += jump  # the trainers live by the same clock
    scene.rounds(5)
    assert [entry for folder in (scene.faulty, scene.healthy) for entry in folder.told()] == []
    scene.others_go_on()
    scene.judged_again()


def test_the_clock_jumps_and_uses_up_no_budget(tmp_path, monkeypatch):
    scene = Scene(tmp_path)
    plan = {"id": "faulty", "budget": {"wall_minutes": 600}}
    contract.replace(scene.faulty.path / contract.EXPERIMENT, contract.encode(plan))
    scene.faulty.status(progress_at=iso(time.time()), heartbeat_at=iso(time.time()), started_at=iso(time.time() - 30))
    scene.rounds()
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 86_400)
    for folder in (scene.faulty, scene.healthy, scene.doomed):
        folder.start += 86_400
        folder.status(progress_at=iso(time.time()))
    scene.rounds(3)
    scene.open()  # nor for a checker that was started after that
    scene.faulty.status(progress_at=iso(time.time()), heartbeat_at=iso(time.time()))
    scene.rounds(3)
    assert scene.faulty.told() == []
    scene.others_go_on()


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0], ids=["forward", "back"])
def test_the_clock_jumps_during_a_kill_and_nobodys_patience_changes(tmp_path, jump):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status(process=contract.this_process())
    first = Watcher(folder).turn()
    first.turns(20)
    second = Watcher(folder, at=first.at + jump)  # another checker, after the clock was set
    second.mono = first.mono
    second.turns(9)
    assert folder.acts() == STOPPED
    second.turns(3)
    assert folder.acts() == [*STOPPED, "cannot"]  # refused, for it is this very process; but at its time


def test_the_clock_jumps_back_while_a_process_vanishes(tmp_path):
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10).status(process=gone_process())
    watcher = Watcher(folder).turn()
    watcher.at -= 86_400
    watcher.turns(3)
    assert folder.told() == ["r1/crash/0/critical"]


def test_a_suspended_machine_takes_nobodys_patience(tmp_path):
    """The checker and the run stood still together, in the midst of a kill: the run had no time to answer."""
    folder = Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status(process=contract.this_process())
    watch = Watcher(folder).turn()
    watch.at, watch.mono = watch.at + 3600, watch.mono + 3600
    for _ in range(25):
        watch.at, watch.mono = watch.at + 1, watch.mono + 1
        watch.run.turn(Moment(watch.at, watch.mono, 3600.0, 3600.0))
    assert folder.acts() == STOPPED
    for _ in range(8):
        watch.at, watch.mono = watch.at + 1, watch.mono + 1
        watch.run.turn(Moment(watch.at, watch.mono, 3600.0, 3600.0))
    assert folder.acts() == [*STOPPED, "cannot"]


def test_the_daemon_knows_how_long_it_stood_still(tmp_path, monkeypatch):
    scene = Scene(tmp_path).rounds()
    monkeypatch.setattr(time, "monotonic", lambda real=time.monotonic: real() + 100.0)
    scene.rounds(2)
    run = scene.watch.runs[scene.faulty.path]
    assert 100 - naps.NAP < run.chase.moment.stood < 101


# ------------------------------------------------------------------------------------------------- the status file


def bound(path):
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))


VERSION_99 = {"v": 99, "state": "hibernating", "schema": {}, "kill": None, "ack": [], "process": 7, "step": {}}


STATUSES = {
    "corrupt": b'{"state": "running", "step": \x00\xff',
    "empty": b"",
    "of one bracket": b"[" * 100_000,
    "a number": b"7",
    "of 17 MiB": b" " * (17 << 20),
    "a folder": None,
    "a pipe": os.mkfifo,
    "a device": lambda path: os.symlink("/dev/zero", path),
    "a socket": bound,
    "a link to itself": lambda path: os.symlink(path.name, path),
}


@pytest.mark.parametrize("what", STATUSES.values(), ids=STATUSES.keys())
def test_a_status_file_that_is(tmp_path, what, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene = Scene(tmp_path).rounds()
    path, good = scene.faulty.path / contract.STATUS, scene.faulty.document()
    path.unlink()
    if what is None:
        path.mkdir()
    elif callable(what):
        short = path.relative_to(tmp_path) if what is STATUSES["a socket"] else path
        what(short)
    else:
        path.write_bytes(what)
    began = time.monotonic()
    scene.rounds(2)
    for run in scene.watch.runs.values():
        run._trouble = (run._trouble[0], 0.0)
    scene.rounds(3)
    assert time.monotonic() - began < 5
    assert len([text for text in scene.said() if text.startswith("training_status.json")]) == 1, scene.said()
    scene.others_go_on()
    assert not daemon.reported(scene.faulty.path)  # which reads it as well
    path.rmdir() if what is None else path.unlink()
    contract.replace(path, contract.encode(good))
    scene.rounds(2)
    once(scene.said(), "training_status.json can be read again")
    scene.judged_again()


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_a_status_file_that_becomes_something_else_during_a_kill(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(enforce, "RETRY_SECONDS", 0.0)
    scene = Scene(tmp_path).rounds()
    path = scene.faulty.path / contract.STATUS
    good = scene.faulty.document()
    path.unlink()
    STATUSES[kind](path)
    scene.faulty.rows("NaN")
    began = time.monotonic()
    scene.rounds(5)
    for run in scene.watch.runs.values():
        run._trouble = (run._trouble[0], 0.0)
    scene.rounds(3)
    assert time.monotonic() - began < 5
    assert scene.faulty.acts() == ["looked-again", "cannot"]
    path.unlink()
    contract.replace(path, contract.encode(good))
    scene.rounds(3)
    assert scene.faulty.acts()[-1] == "requested"


def test_a_status_file_written_by_another_version(tmp_path):
    scene = Scene(tmp_path).rounds()
    path, good = scene.faulty.path / contract.STATUS, scene.faulty.document()
    contract.replace(path, contract.encode(VERSION_99))
    scene.rounds(3)
    scene.others_go_on()
    assert scene.faulty.told() == []
    contract.replace(path, contract.encode(good))
    scene.judged_again()


# --------------------------------------------------------------------------------------------------------- odd files

ODD = {
    "a pipe": os.mkfifo,
    "a device": lambda path: os.symlink("/dev/zero", path),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: os.symlink(path.name, path),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
def test_a_metrics_file_that_is(tmp_path, make):
    scene = Scene(tmp_path).rounds()
    path = scene.faulty.path / contract.METRICS
    rows = path.read_bytes()
    path.unlink()
    make(path)
    began = time.monotonic()
    scene.rounds(4)
    assert time.monotonic() - began < 5
    assert len([text for text in scene.said() if text.startswith("metrics.jsonl ") and "cut" not in text]) == 1
    scene.others_go_on()
    path.rmdir() if path.is_dir() else path.unlink()
    path.write_bytes(rows)
    scene.rounds(2)
    scene.judged_again()


JOURNALS = {key: ODD[key] for key in ("a pipe", "a device", "a folder")} | {
    "the null device": lambda path: os.symlink("/dev/null", path)
}


@pytest.mark.parametrize("make", JOURNALS.values(), ids=JOURNALS.keys())
def test_a_journal_that_keeps_no_evidence_is(tmp_path, make):
    scene = Scene(tmp_path).rounds()
    path = scene.faulty.path / contract.FINDINGS
    make(path)
    scene.faulty.rows("NaN", "NaN", "NaN")
    scene.rounds(4)
    once(scene.said(), "findings.jsonl cannot be written (is no regular file; move it away)")
    assert "kill" not in scene.faulty.document()
    scene.others_go_on()
    path.rmdir() if path.is_dir() else path.unlink()
    scene.rounds(2)
    assert scene.faulty.acts() == STOPPED


@pytest.mark.parametrize(
    "name", [contract.DIAGNOSIS, contract.CURVE, contract.NEXT, contract.EXPERIMENT, "result.json"]
)
@pytest.mark.parametrize("make", [ODD["a pipe"], ODD["a device"]], ids=["a pipe", "a device"])
def test_a_page_or_record_that_is_no_file_is_never_waited_for(tmp_path, make, name):
    Folder(tmp_path / "exp").rows(*[2.0] * 10, "NaN").status("completed")
    Folder(tmp_path / "other").rows(*[2.0] * 10).status("completed")
    make(tmp_path / "exp" / name)
    report, summarize = cli._reporter(tmp_path)
    began, told = time.monotonic(), []
    watching = daemon.Daemon(tmp_path, on_change=report, on_changes=summarize, tell=told.extend)
    for _ in range(3):
        watching.round(wait=False)
    assert time.monotonic() - began < 5
    assert "exp" in (tmp_path / contract.CHECKLIST).read_text()
    assert (tmp_path / "other" / contract.DIAGNOSIS).is_file()
    assert (tmp_path / "exp" / contract.DIAGNOSIS).is_file()


# ------------------------------------------------------------------------------------------------------------ names

NAMES = {
    "a newline": "exp\n## forged heading",
    "dots": "exp..",
    "what a browser takes for dots and a slash": "%2e%2e%2fetc",
    "backslashes": "a\\..\\..\\etc",
    "an escape sequence": "exp\x1b]0;owned\x07\x1b[2J",
    "bytes that are no UTF-8": os.fsdecode(b"exp-\xff\xfe"),
    "text from right to left": "exp\u202egpj.\u2066",
    "255 bytes": "x" * 255,
    "markdown and html": "<script>|`exp`|[x](javascript:0)",
    "a space at its end": "exp ",
    "a flag": "--observe",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_folder_named_with(tmp_path, name):
    report, summarize = cli._reporter(tmp_path)
    scene = Scene(tmp_path, name)
    scene.watch.reports = Reports(report, summarize, scene.watch._while_reporting)
    scene.rounds(2)
    scene.others_go_on()
    scene.judged_again()
    scene.rounds(2)
    lines = [show.line(notice) for notice in scene.told if "nonfinite" in notice.rule]
    texts = [*lines, (tmp_path / contract.CHECKLIST).read_text(), (scene.faulty.path / contract.DIAGNOSIS).read_text()]
    assert lines
    for text in texts:
        text.encode()  # no half characters
        assert not {"\x1b", "\x07", "\u202e", "\u2066"} & set(text)
        assert "\n## forged" not in text
    assert not [notice for notice in scene.told if "report cannot" in notice.text]
    assert len(summary.lines(tmp_path)) == 3
    assert not (tmp_path.parent / contract.FINDINGS).exists()


def test_a_hidden_folder_is_left_alone(tmp_path):
    scene = Scene(tmp_path)
    begun(tmp_path / "..exp", "r1").rows("NaN")
    scene.rounds()
    assert scene.faulty.path in scene.watch.runs
    assert not any(path.name == "..exp" for path in scene.watch.runs)
    scene.others_go_on()


def test_a_symlink_loop_and_a_second_name(tmp_path):
    scene = Scene(tmp_path)
    (tmp_path / "a-latest").symlink_to("faulty")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "healthy" / "up").symlink_to("..")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "nowhere").symlink_to("gone")
    scene.rounds()
    assert {*scene.watch.runs} == {scene.faulty.path, scene.healthy.path, scene.doomed.path}
    scene.others_go_on()
    scene.judged_again()


def test_a_run_elsewhere_is_watched_through_its_links_once(tmp_path):
    far = begun(tmp_path / "far", "r1").rows("NaN")
    root = tmp_path / "root"
    scene = Scene(root)
    for name in ("here", "there"):
        (root / name).symlink_to(far.path)
    scene.rounds()
    assert far.acts() == STOPPED
    assert len(scene.watch.runs) == 4


# ---------------------------------------------------------------------------------------------------------- numbers


def ten_thousand(folder):
    """A log in which ten thousand processes each made a NaN: as many episodes."""
    with (folder.path / contract.METRICS).open("a") as file:
        for number in range(10_000):
            for loss in (2.0, "NaN", "NaN"):
                file.write(json.dumps({"step": number, "run_id": f"r{number}", "metrics": {"train_loss": loss}}) + "\n")


def test_ten_thousand_findings_in_one_run(tmp_path):
    report, summarize = cli._reporter(tmp_path)
    scene = Scene(tmp_path).rounds()
    ten_thousand(scene.faulty)
    scene.watch.reports = Reports(report, summarize, scene.watch._while_reporting)
    began = time.monotonic()
    scene.rounds(1)
    slowest = time.monotonic() - began
    scene.others_go_on()
    scene.rounds_until_read().rounds(2)
    assert len(scene.faulty.told()) == len(set(scene.faulty.told())) == 10_000
    begun = time.monotonic()
    scene.rounds(1)
    assert time.monotonic() - begun < 2.0  # nothing is new
    page = (scene.faulty.path / contract.DIAGNOSIS).read_text()
    assert len(page) < 50_000
    assert "and 9,949 more findings, all in `findings.jsonl`" in page
    assert slowest < 60


def test_one_bad_run_never_disturbs_another(tmp_path):
    """All of it at once: every odd file in a run of its own, beside a healthy and a doomed one."""
    scene = Scene(tmp_path)
    for number, make in enumerate((*STATUSES.values(), *ODD.values())):
        folder = tmp_path / f"bad-{number}"
        folder.mkdir()
        for name in (contract.STATUS, contract.METRICS):
            path = folder / name
            if make is None:
                path.mkdir()
            elif isinstance(make, bytes):
                path.write_bytes(make)
            elif make is not STATUSES["a socket"]:
                make(path)
    began = time.monotonic()
    scene.rounds(5)
    assert time.monotonic() - began < 10
    scene.others_go_on()
    scene.judged_again()
