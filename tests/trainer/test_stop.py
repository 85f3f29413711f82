import dataclasses
import json
import os
import signal
import threading

import pytest

from contract import Kill, StatusFile, request_kill
from trainer.log import RunLog
from trainer.status import set_aside


def by_rename(path, document):
    beside = path.with_name("edited")
    beside.write_text(json.dumps(document))
    os.replace(beside, path)


def in_place(path, document):
    path.write_text(json.dumps(document))


@pytest.fixture
def log(tmp_path):
    with RunLog(tmp_path) as running:
        running._status._over = True  # tests make every write themselves
        running._status.nudge()
        running._status._thread.join()
        yield running


@pytest.mark.parametrize("save", [by_rename, in_place], ids=["rename", "in-place"])
@pytest.mark.parametrize("kill", [True, "it diverges", {"id": "k1", "reason": "r"}], ids=["true", "text", "record"])
def test_a_kill_is_seen_answered_and_spelled_out(log, read_status, save, kill):
    log.step(7, loss=1.0)
    assert log.should_stop() is None
    save(log._status.file.path, read_status(log.folder) | {"kill": kill})
    seen = log.should_stop(7)
    assert seen is log.should_stop(8)
    status = read_status(log.folder)
    assert (status["ack"]["id"], status["ack"]["step"]) == (seen.id, 7)
    assert status["kill"]["reason"] == seen.reason
    if not isinstance(kill, dict):
        assert status["kill"]["run_id"] == log.run_id
    log.close()
    assert read_status(log.folder)["state"] == "killed"


def test_a_half_saved_file_is_looked_at_again(log, read_status):
    document = json.dumps(read_status(log.folder) | {"kill": True})
    log._status.file.path.write_text(document[: len(document) // 2])
    assert log.should_stop() is None
    log._status.file.path.write_text(document)
    assert log.should_stop() is not None


def test_two_saves_within_one_tick_of_the_clock_are_both_seen(log, read_status):
    path = log._status.file.path
    quiet, ring = (read_status(log.folder) | {"kill": value} for value in ("", "x"))
    in_place(path, quiet | {"pad": "x"})
    assert log.should_stop() is None
    info = os.stat(path)
    in_place(path, ring | {"pad": ""})
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert os.stat(path).st_size == info.st_size
    assert log.should_stop() is not None


@pytest.mark.parametrize(
    "change",
    [{"kill": {"id": "k", "reason": "r", "run_id": "another"}}, {"kill": True, "state": "completed"}, {"kill": None}],
    ids=["stale-run", "finished", "nothing"],
)
def test_what_is_no_request_for_this_run_is_ignored(log, read_status, change):
    in_place(log._status.file.path, read_status(log.folder) | change)
    assert log.should_stop() is None


def test_a_request_through_the_treaty_is_heard(log):
    assert request_kill(StatusFile(log.folder), Kill(id="k9", reason="diverged", run_id=log.run_id, rule="divergence"))
    assert log.should_stop().rule == "divergence"


def test_a_missing_status_file_rings_nothing(log):
    log._status.file.path.unlink()
    assert log.should_stop() is None


def test_a_kill_from_before_the_run_is_set_aside(tmp_path, read_status, read_rows):
    (tmp_path / "training_status.json").write_text(json.dumps({"run_id": "old", "state": "running", "kill": "stop"}))
    with RunLog(tmp_path) as log:
        assert log.should_stop() is None
    status = read_status(tmp_path)
    assert (status["kill"]["run_id"], status["ack"], status["state"]) == ("old", None, "completed")
    assert "set aside: stop" in read_rows(tmp_path, "note")[0]["text"]


KILL = dataclasses.asdict(Kill(id="k", reason="r", run_id="old"))


@pytest.mark.parametrize(
    ("document", "waiting"),
    [
        ({}, False),
        ({"run_id": "old", "kill": KILL}, True),
        ({"run_id": "old", "kill": KILL, "ack": {"id": "k"}}, False),
        ({"run_id": "newer", "kill": KILL}, False),
        ({"kill": True}, True),
    ],
    ids=["none", "unserved", "served", "already-stale", "by-hand-before-any-run"],
)
def test_set_aside(document, waiting):
    after, kill = set_aside(document)
    assert (kill is not None) == waiting
    assert "ack" not in after
    assert not after["kill"] or after["kill"]["run_id"] is not None


@pytest.fixture
def interruptible():
    """A process that was started in the background may have inherited SIGINT as ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_rings_once_and_then_interrupts(log, read_status):
    log.should_stop()
    os.kill(os.getpid(), signal.SIGINT)
    kill = log.should_stop(3)
    assert (kill.requested_by, kill.reason) == ("signal", "SIGINT received")
    assert read_status(log.folder)["ack"]["id"] == kill.id
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_go_back_to_what_they_were(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with RunLog(tmp_path) as log:
        log.should_stop()
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_log_that_another_thread_closes_lets_go_of_signals_at_the_next_one(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    log = RunLog(tmp_path)
    log.should_stop()
    closing = threading.Thread(target=log.close)
    closing.start()
    closing.join()
    assert signal.getsignal(signal.SIGINT) != before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_log_that_another_thread_has_closed_stays_out_of_the_next_ones_way(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    for folder in ("one", "two"):
        log = RunLog(tmp_path / folder)
        log.should_stop()
        if folder == "one":
            closing = threading.Thread(target=log.close)
            closing.start()
            closing.join()
    signal.raise_signal(signal.SIGTERM)
    assert log.should_stop().requested_by == "signal"
    log.close()
    signal.getsignal(signal.SIGTERM).__self__.restore()
    assert signal.getsignal(signal.SIGTERM) == before
