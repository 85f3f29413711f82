import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import contract
from checker import kin, process
from checker.events import Life

HERE = contract.this_process()


@pytest.fixture
def sleeper():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait()


def named(pid, **changes):
    return replace(HERE, pid=pid, started=contract.process_started(pid), **changes)


def settled(child, life):
    """Waits until the kernel has caught up with a signal."""
    end = time.monotonic() + 5
    while process.look(child) is not life and time.monotonic() < end:
        time.sleep(0.005)
    return process.look(child)


def test_a_process_is_alive_stopped_and_gone(sleeper):
    child = named(sleeper.pid)
    assert process.look(child) is Life.ALIVE
    sleeper.send_signal(signal.SIGSTOP)
    assert settled(child, Life.STOPPED) is Life.STOPPED
    sleeper.kill()
    assert settled(child, Life.GONE) is Life.GONE  # a zombie: nobody has waited for it yet
    sleeper.wait()
    assert process.look(child) is Life.GONE


def test_a_pid_that_was_given_to_someone_else_is_gone_and_never_signalled(sleeper):
    child = named(sleeper.pid)
    other = replace(child, started=child.started - 1)
    assert process.look(other) is Life.GONE
    assert "another process now" in process.signal_if_same(other, signal.SIGKILL)
    assert sleeper.poll() is None


@pytest.fixture
def forked():
    """Starts a child that runs a function; it is forked, so that it starts at once."""
    pids = []

    def start(then):
        pid = os.fork()
        if pid == 0:
            try:
                then()
            finally:
                os._exit(0)
        pids.append(pid)
        return named(pid)

    yield start
    for pid in pids:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def recycled(pid):
    """A new process with a pid that was another's; None when it cannot be had."""
    for _ in range(20):  # other programs start processes too
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        given = os.fork()
        if given == 0:
            time.sleep(60)
            os._exit(0)
        if given == pid:
            return named(pid)
        os.kill(given, signal.SIGKILL)
        os.waitpid(given, 0)
    return None


def blocked():
    """Waits without interruption, as for a disk: for a child that shares this very process until it ends (vfork)."""
    clone, share = {"x86_64": 56, "aarch64": 220}[os.uname().machine], 0x4000
    if ctypes.CDLL(None).syscall(clone, share | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        time.sleep(60)


def until(true):
    end = time.monotonic() + 5
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return true()


def test_uninterruptible_sleep_is_told_apart(forked):
    child, awake = forked(blocked), forked(lambda: time.sleep(60))
    below = None
    try:
        assert until(lambda: process.slept(child) is not None)
        below = kin.below([child], Path("nowhere"))
        assert process.look(child) is Life.ALIVE
        assert process.slept(child) == process.slept(child)
        assert "uninterruptible sleep" in process.held(child)
        assert (process.slept(awake), process.held(awake)) == (None, None)
    finally:
        for one in below or ():
            os.kill(one.pid, signal.SIGKILL)


def test_a_zombie_is_gone_and_told_apart(forked):
    child = forked(lambda: time.sleep(60))
    assert not process.zombie(child)
    os.kill(child.pid, signal.SIGKILL)
    assert settled(child, Life.GONE) is Life.GONE
    assert (process.zombie(child), process.same(child)) == (True, False)
    assert process.zombie(replace(child, started=1)) is False
    assert "gone" in process.signal_if_same(child, signal.SIGTERM)


def test_a_process_whose_main_thread_has_ended_is_not_gone():
    code = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start();"
        "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[__import__('os').uname().machine], 0)"
    )
    program = subprocess.Popen([sys.executable, "-S", "-c", code])
    try:
        child = named(program.pid)
        assert until(lambda: process.zombie(child))
        assert process.look(child) is Life.ALIVE
        assert "others are held" in process.held(child)
    finally:
        program.kill()
        program.wait(5)


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that")


@root_only
def test_a_real_process_of_another_user_is_refused(forked):
    def leave():
        os.setuid(4711)
        time.sleep(60)

    child = forked(leave)
    assert until(lambda: os.stat(f"/proc/{child.pid}").st_uid == 4711)
    assert "belongs to user 4711" in process.signal_if_same(child, signal.SIGKILL)
    assert process.look(child) is Life.ALIVE


@pytest.mark.skipif(not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK), reason="the next pid cannot be chosen")
def test_a_pid_that_the_kernel_has_really_given_to_somebody_else(forked):
    before = forked(lambda: time.sleep(60))
    os.kill(before.pid, signal.SIGKILL)
    os.waitpid(before.pid, 0)
    time.sleep(0.02)  # the start time is told in hundredths of a second
    after = recycled(before.pid)
    if after is None:
        pytest.skip("other programs are given the pid")
    assert process.look(before) is Life.GONE
    assert process.same(after)
    assert "another process now" in process.signal_if_same(before, signal.SIGKILL)
    assert kin.below([before], Path("nowhere")) == []
    assert process.same(after)


@pytest.mark.parametrize(
    ("log", "folder", "refused"),
    [(0, 0, False), (0, 4711, False), (None, 0, False), (65534, 4711, False), (4711, 0, True), (None, 4711, True)],
)
@root_only
def test_a_folder_names_only_processes_of_who_has_written_its_log(tmp_path, log, folder, refused):
    if log is not None:
        (tmp_path / contract.METRICS).touch()
        os.chown(tmp_path / contract.METRICS, log, log)
    os.chown(tmp_path, folder, folder)
    found = process.stranger(tmp_path)
    assert (found is not None) is refused
    assert found is None or "belongs to user 4711" in found


UNKNOWABLE = {
    "other host": {"host": "elsewhere"},
    "other boot": {"boot_id": "00000000-0000-0000-0000-000000000000"},
    "no boot": {"boot_id": None},
    "no start time": {"started": None},
    "pid 0": {"pid": 0},
    "pid 1": {"pid": 1},
    "pid -1": {"pid": -1},
    "a group": {"pid": -4711},
    "a bool": {"pid": True},
    "a float": {"pid": 3.0},
}


@pytest.mark.parametrize("change", UNKNOWABLE.values(), ids=UNKNOWABLE.keys())
def test_unknown_is_not_dead_and_never_signalled(sleeper, change):
    child = replace(named(sleeper.pid), **change)
    assert process.look(child) is Life.UNKNOWN
    assert process.cpu_seconds(child) is None
    assert isinstance(process.signal_if_same(child, signal.SIGKILL), str)
    assert sleeper.poll() is None


@pytest.mark.parametrize("pid", [os.getpid(), os.getppid()], ids=["itself", "its parent"])
def test_the_checker_signals_neither_itself_nor_who_started_it(pid):
    assert "the checker itself" in process.signal_if_same(named(pid), signal.SIGTERM)


def test_a_process_of_another_user_is_refused(sleeper, monkeypatch):
    monkeypatch.setattr(process.os, "geteuid", lambda: 4711)
    assert "belongs to user" in process.signal_if_same(named(sleeper.pid), signal.SIGKILL)
    assert sleeper.poll() is None


@pytest.mark.parametrize("with_handle", [True, False], ids=["pidfd", "kill"])
def test_the_same_process_is_signalled(sleeper, monkeypatch, with_handle):
    if not with_handle:
        monkeypatch.delattr(process.os, "pidfd_open")
    assert process.signal_if_same(named(sleeper.pid), signal.SIGTERM) is None
    assert sleeper.wait(5) == -signal.SIGTERM
    assert "gone" in process.signal_if_same(replace(HERE, pid=sleeper.pid, started=1), signal.SIGTERM)


def test_an_impossible_signal_is_a_sentence_not_an_error(sleeper):
    assert "cannot be signalled" in process.signal_if_same(named(sleeper.pid), 4711)


def test_processor_time_of_a_busy_process_grows():
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        end = time.monotonic() + 10
        while (process.cpu_seconds(named(child.pid)) or 0) < 0.1 and time.monotonic() < end:
            time.sleep(0.02)
        assert process.cpu_seconds(named(child.pid)) >= 0.1
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("stat", "life"),
    [
        ("7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 5 5 5 5 20 0 1 0 42 0", Life.ALIVE),
        ("7 (x) T 1 7 7 0 -1 0 0 0 0 0 5 5 5 5 20 0 1 0 42 0", Life.STOPPED),
        ("7 (x) D 1 7 7 0 -1 0 0 0 0 0 5 5 5 5 20 0 1 0 42 0", Life.ALIVE),
        ("7 (x) Z 1 7 7 0 -1 0 0 0 0 0 5 5 5 5 20 0 1 0 42 0", Life.GONE),
        ("7 (x) Z 1 7 7 0 -1 0 0 0 0 0 5 5 5 5 20 0 3 0 42 0", Life.ALIVE),
        ("7 (x) S 1 7 7 0 -1 0 0 0 0 0 5 5 5 5 20 0 1 0 43 0", Life.GONE),
    ],
    ids=["brackets in the name", "stopped", "uninterruptible", "zombie", "zombie with threads", "reused"],
)
def test_a_made_up_process_table(tmp_path, stat, life):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(stat)
    assert process.look(replace(HERE, pid=7, started=42), tmp_path) is life


@pytest.mark.parametrize(
    "found",
    [None, 7, [], {}, {"pid": 7}, {"pid": "7", "host": "h"}, {"pid": True, "host": "h"}, {"pid": 7, "host": None}],
    ids=str,
)
def test_a_status_that_names_no_process_in_earnest(found):
    assert process.parse({"process": found}) is None
