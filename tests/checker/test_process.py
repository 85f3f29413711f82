import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

import contract
from checker import process
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
        ("7 (x) Z 1 7 7 0 -1 0 0 0 0 0 5 5 5 5 20 0 1 0 42 0", Life.GONE),
        ("7 (x) S 1 7 7 0 -1 0 0 0 0 0 5 5 5 5 20 0 1 0 43 0", Life.GONE),
    ],
    ids=["brackets in the name", "stopped", "zombie", "reused"],
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
