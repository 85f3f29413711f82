"""Is my watcher alive? The file that says so, and who is believed about it."""

import json
import os
import time
from datetime import UTC, datetime

import pytest

import contract
from checker.daemon import Daemon
from checker.lock import only_one
from checker.mounts import Mount, mount
from checker.service import alive, heartbeat
from checker.service.alive import Alive
from checker.watch import Alarm

HERE = os.uname().nodename


def ago(seconds):
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat()


def leave(folder, written=0.0, beat=None, **record):
    """A record whose beat and whose file are so many seconds old."""
    path = folder / contract.WATCHER
    if beat is not None:
        record["beat_at"] = ago(beat)
    path.write_text(json.dumps({"pid": os.getpid(), "host": HERE, "started": ago(1000), **record}))
    os.utime(path, (time.time() - written,) * 2)
    return contract.watcher(folder)


FAR = {"host": "node-7", "pid": 12}

RECORDS = {
    "nobody": (None, False),
    "here, and the lock is free": ({"beat": 1}, False),
    "here, and left": ({"beat": 1, "ended": "2026-01-01T00:00:00+00:00"}, False),
    "elsewhere, and left": ({**FAR, "beat": 1, "ended": "2026-01-01T00:00:00+00:00"}, False),
    "elsewhere, and silent": ({**FAR, "beat": 100, "written": 100}, False),
    "elsewhere, of an older checker, long ago": ({**FAR, "written": 100}, False),
    "a beat that is none": ({**FAR, "beat_at": [1], "written": 100}, False),
    "a beat in the year 1": ({**FAR, "beat_at": "0001-01-01", "written": 100}, False),
    "no process": ({"pid": "12"}, False),
    "elsewhere, beating": ({**FAR, "beat": 1}, True),
    "elsewhere, with a clock an hour slow": ({**FAR, "beat": 3600, "written": 1}, True),
    "elsewhere, on a server with a clock an hour fast": ({**FAR, "beat": 1, "written": -3600}, True),
    "elsewhere, without a beat yet": ({**FAR, "written": 2}, True),
}


@pytest.mark.parametrize(("record", "watches"), RECORDS.values(), ids=RECORDS.keys())
def test_who_is_believed_to_watch(tmp_path, record, watches):
    found = None if record is None else leave(tmp_path, **record)
    assert (found is not None) is watches


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b"\xff", b"x" * 5000], ids=["empty", "torn", "list", "binary", "long"]
)
def test_garbage_names_nobody(tmp_path, data):
    (tmp_path / contract.WATCHER).write_bytes(data)
    assert contract.watcher(tmp_path) is None
    assert contract.last_watcher(tmp_path) is None


def test_one_that_holds_the_lock_and_does_not_look_is_called_silent(tmp_path, monkeypatch):
    with only_one(tmp_path) as beat:
        beat.beat(mode="act", runs=3)
        assert contract.watcher(tmp_path).looking
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 200)
        found = contract.watcher(tmp_path)
        assert not found.looking
        assert str(found).endswith("but it has not looked for 3 min")
        answer = alive.ask(tmp_path)
        assert answer.alive is Alive.SILENT
        assert "has not looked for 3 min: it is suspended or hangs, and nobody watches" in answer.text


def test_the_record_is_rewritten_in_place_every_five_seconds_and_the_lock_stays(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock[0])
    path = tmp_path / contract.WATCHER
    with only_one(tmp_path) as beat:
        inode, seen = os.stat(path).st_ino, []
        for runs in range(12):
            clock[0] += 1
            beat.beat(runs=runs, mode="act")
            seen.append(json.loads(path.read_bytes())["runs"])
        assert seen == [0] * 5 + [5] * 5 + [10] * 2
        assert (os.stat(path).st_ino, os.stat(path).st_size) == (inode, heartbeat.SIZE)
        assert contract.watcher(tmp_path).runs == 10
    assert contract.watcher(tmp_path) is None
    assert contract.last_watcher(tmp_path).ended


def test_a_full_disk_costs_the_beat_and_not_the_checker(tmp_path, monkeypatch):
    with only_one(tmp_path) as beat:
        monkeypatch.setattr(heartbeat.os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        beat.beat(runs=1)
        monkeypatch.undo()
        assert contract.watcher(tmp_path).runs is None


def test_our_own_beat_does_not_wake_us(tmp_path):
    alarm = Alarm(tmp_path, poll=600)
    alarm.start()
    alarm.wait(0)
    (tmp_path / contract.WATCHER).write_text("{}")
    assert alarm.wait(0.2) == {}
    alarm.stop()


def test_the_answer_in_words(tmp_path):
    run = tmp_path / "zoo" / "exp-001"
    run.mkdir(parents=True)
    assert alive.ask(run) == (Alive.NONE, "nobody watches this folder", None)
    leave(run, **FAR, beat_at=ago(100), written=100)
    assert "(process 12 on node-7) is gone without a word and last looked at 20" in alive.ask(run).text
    with only_one(tmp_path) as beat:
        watch = Daemon(tmp_path)
        beat.beat(mode="observe", runs=len(watch.runs))
        answer = alive.ask(run)
        assert answer.alive is Alive.LOOKING
        assert answer.text.startswith(f"watched from {tmp_path} by process {os.getpid()} on {HERE}, since 20")
        assert "observing only, 0 runs read, looked 0 s ago" in answer.text
    (run / contract.WATCHER).unlink()
    assert "left at 20" in alive.ask(tmp_path).text


TABLE = """\
22 1 0:21 / / rw - ext4 /dev/sda rw
23 22 0:22 / /data rw shared:1 - nfs4 server:/x rw
24 23 0:23 / /data/my\\040runs rw - xfs /dev/sdb rw
25 22 0:24 / /mnt rw - fuse.sshfs host: rw
26 22 0:25 / /scratch rw - tmpfs none rw
27 22 0:26 / /scratch rw - lustre x rw
garbage
"""

MOUNTS = {
    "/home/me": ("ext4", False),
    "/database": ("ext4", False),
    "/data/my runs/a": ("xfs", False),
    "/data": ("nfs4", True),
    "/data/exp": ("nfs4", True),
    "/mnt/x": ("fuse.sshfs", True),
    "/scratch/x": ("lustre", True),
}


@pytest.mark.parametrize(("path", "expected"), MOUNTS.items(), ids=MOUNTS.keys())
def test_the_file_system_of_a_folder(tmp_path, path, expected):
    (tmp_path / "mountinfo").write_text(TABLE)
    found = mount(path, tmp_path / "mountinfo")
    assert (found.kind, found.network) == expected


def test_where_nothing_is_told_nothing_is_feared(tmp_path):
    assert mount(tmp_path, tmp_path / "missing") == Mount("", "")
    assert not mount(tmp_path, tmp_path / "missing").network
