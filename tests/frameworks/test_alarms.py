"""Alarms through Apprise to a real receiver: real processes, a real socket, and every way in which it may fail."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from feeds import Written, alert, end
from processes import ROOT, program, wait_until

from checker.alarms.record import Health, served

pytest.importorskip("apprise")

FAKE = ROOT / "tests" / "checker" / "fake_trainer.py"
TOKEN = "TokenThatNobodyMaySee"


class Receiver:
    """A service that takes messages, refuses them, or never answers."""

    def __init__(self):
        self.taken, self.asked, self.answer, self.released = [], 0, 200, threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                receiver.asked += 1
                document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.answer is None:
                    receiver.released.wait(60)
                    return
                if receiver.answer == 200:
                    receiver.taken.append(document)
                self.send_response(receiver.answer)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"json://127.0.0.1:{self.server.server_port}/{TOKEN}"

    @property
    def titles(self):
        return [document["title"] for document in self.taken]

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def other():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def channels(tmp_path):
    """A file of channels, as it should be."""

    def write(*receivers):
        path = tmp_path / "channels"
        path.write_text("".join(f"{receiver.url}\n" for receiver in receivers))
        path.chmod(0o600)
        return path

    return write


def trained(folder, *arguments):
    return program_of(FAKE, folder, *arguments)


def program_of(path, *arguments):
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, path, *map(str, arguments)], env=environ, stdout=subprocess.DEVNULL)


def children(pid):
    """The processes of alarms that a watch has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def ended(watch, signum=signal.SIGTERM):
    """Ends a watch; returns what it has said, and how long it took to leave."""
    began = time.monotonic()
    watch.send_signal(signum)
    out, _ = watch.communicate(timeout=20)
    return out, time.monotonic() - began


def alarms_over(pids):
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 30)


def test_a_doomed_run_is_one_message_and_the_url_is_nowhere(tmp_path, receiver, channels):
    root = tmp_path / "runs"
    root.mkdir()
    watch = program("checker", "watch", root, "--notify", channels(receiver))
    assert watch.stdout.readline() == f"watching {root}\n"
    (child,) = children(watch.pid)
    for pid in (watch.pid, child):
        assert TOKEN not in Path(f"/proc/{pid}/cmdline").read_text()
    assert trained(root / "exp-001", "obey", 30).wait(60) == 3
    wait_until(lambda: receiver.taken, 20)
    time.sleep(2)
    out, seconds = ended(watch)
    assert seconds < 2
    alarms_over([child])
    (message,) = receiver.taken
    assert message["title"] == "exp-001: nonfinite (critical), killed"
    assert message["type"] == "failure"
    what, done, path, _ = message["message"].splitlines()
    assert what == "train_loss is nan, once (step 30)"
    assert done.startswith("it was asked to stop and did; killed at step ")
    assert path.endswith(f":{root}/exp-001/diagnosis.md")
    assert (root / "exp-001" / "diagnosis.md").exists()
    assert TOKEN not in out
    for file in (root / ".checker.alarms").iterdir():
        assert TOKEN not in file.read_text()


def test_a_channel_that_hangs_holds_up_neither_the_watch_nor_the_others(tmp_path, receiver, other, channels):
    root = tmp_path / "runs"
    root.mkdir()
    receiver.answer = None
    watch = program("checker", "watch", root, "--notify", channels(receiver, other))
    watch.stdout.readline()
    pids = children(watch.pid)
    for name in ("exp-001", "exp-002"):
        began = time.monotonic()
        assert trained(root / name, "obey", 10).wait(60) == 3  # judged and stopped as ever
        assert time.monotonic() - began < 15
    wait_until(lambda: len(other.taken) == 2, 30)
    wait_until(lambda: [record for record in served(root) if record.health is Health.FAILS], 30)
    time.sleep(2)
    out, seconds = ended(watch)
    assert seconds < 2
    assert receiver.taken == []
    assert sorted(other.titles) == [f"exp-00{number}: nonfinite (critical), killed" for number in (1, 2)]
    assert "do not get through" in out
    alarms_over(pids)


def test_a_channel_that_fails_is_said_once_and_loses_nothing(tmp_path, receiver, channels):
    root = tmp_path / "runs"
    root.mkdir()
    receiver.answer = 500
    watch = program("checker", "watch", root, "--notify", channels(receiver), "--log-format", "json")
    watch.stdout.readline()
    assert trained(root / "exp-001", "obey", 10).wait(60) == 3
    wait_until(lambda: receiver.asked >= 3, 40)
    doctor = program("checker", "doctor", root, "--json")
    checks = {check["check"]: check for check in json.loads(doctor.communicate(timeout=60)[0])["checks"]}
    assert checks["alarms"]["level"] == "warn"
    assert "do not get through (Failed to send JSON POST notification" in checks["alarms"]["text"]
    assert "do not get through" in program("checker", "status", root).communicate(timeout=60)[0]
    receiver.answer = 200
    wait_until(lambda: receiver.taken, 60)
    time.sleep(2)
    out, _ = ended(watch)
    said = [json.loads(line) for line in out.splitlines() if '"alarms"' in line]
    assert [(line["level"], line["text"].partition(" do ")[2][:15]) for line in said[:1]] == [
        ("warning", "not get through")
    ]
    assert said[1]["text"].endswith("get through again")
    assert len(said) == 2
    assert len(receiver.taken) == 1
    assert TOKEN not in out


def notifying(root, *arguments):
    notifier = program("checker", "notify", root, *arguments)
    assert notifier.stdout.readline().startswith("telling of ")
    return notifier


def test_a_notifier_that_is_killed_is_followed_by_one_that_goes_on_where_it_stood(tmp_path, receiver, channels):
    root, where = tmp_path / "runs", channels(receiver)
    feed = Written(root, time.time).add(alert("before"))  # nobody had asked to be told yet
    first = notifying(root, where)
    feed.add(alert("exp-001"))
    wait_until(lambda: len(receiver.taken) == 1, 20)
    time.sleep(0.5)
    first.kill()
    first.communicate(timeout=20)
    feed.add(alert("exp-002"), end("exp-002", "failed"))
    second = notifying(root, where)
    wait_until(lambda: len(receiver.taken) == 2, 20)
    second.terminate()
    out, _ = second.communicate(timeout=20)
    assert second.returncode == 0
    assert receiver.titles == ["exp-001: explosion (critical), goes on", "exp-002: explosion (critical), failed"]
    assert TOKEN not in out


def test_a_burst_is_a_few_messages(tmp_path, receiver, channels):
    root = tmp_path / "runs"
    feed = Written(root, time.time)
    notifier = notifying(root, channels(receiver))
    feed.add(
        *[event for number in range(500) for event in (alert(f"r-{number}", "crash"), end(f"r-{number}", "crashed"))]
    )
    wait_until(lambda: len(receiver.taken) == 6, 30)
    time.sleep(3)
    notifier.terminate()
    notifier.communicate(timeout=20)
    assert receiver.titles[:5] == [f"r-{number}: crash (critical), crashed" for number in range(5)]
    assert receiver.titles[5:] == ["495 runs need a look, 495 critical"]


def test_a_watch_that_is_gone_without_a_word_is_told(tmp_path, receiver, channels):
    root = tmp_path / "runs"
    root.mkdir()
    watch = program("checker", "watch", root, "--notify", channels(receiver))
    watch.stdout.readline()
    pids = children(watch.pid)
    watch.kill()
    watch.communicate(timeout=20)
    wait_until(lambda: receiver.taken, 40)
    alarms_over(pids)
    (message,) = receiver.taken
    assert message["title"] == "checker of runs"
    assert "is gone without a word" in message["message"]


def test_a_watch_that_takes_its_leave_is_no_alarm_and_what_was_found_last_is_told(tmp_path, receiver, channels):
    root = tmp_path / "runs"
    root.mkdir()
    watch = program("checker", "watch", root, "--notify", channels(receiver))
    watch.stdout.readline()
    pids = children(watch.pid)
    assert trained(root / "exp-001", "obey", 10).wait(60) == 3
    wait_until((root / "exp-001" / "diagnosis.md").exists, 20)
    ended(watch, signal.SIGINT)
    alarms_over(pids)
    assert receiver.titles == ["exp-001: nonfinite (critical), killed"]


def test_a_process_of_alarms_that_dies_is_started_again(tmp_path, receiver, channels):
    root = tmp_path / "runs"
    root.mkdir()
    watch = program("checker", "watch", root, "--notify", channels(receiver))
    watch.stdout.readline()
    (child,) = children(watch.pid)
    os.kill(child, signal.SIGKILL)
    assert trained(root / "exp-001", "obey", 10).wait(60) == 3
    wait_until(lambda: receiver.taken, 40)
    out, _ = ended(watch)
    assert "the process of alarms has ended (exit code -9); started again in 10 s" in out
    assert receiver.titles == ["exp-001: nonfinite (critical), killed"]


def test_a_trial_says_which_channel_works(tmp_path, receiver, other, channels):
    other.answer = 403
    trial = program("checker", "notify", tmp_path, channels(receiver, other), "--test")
    out, _ = trial.communicate(timeout=60)
    assert trial.returncode == 1
    assert sorted(line.partition(": ")[2][:20] for line in out.splitlines()) == [
        "FAILED: Failed to se",
        "a message was taken",
    ]
    assert TOKEN not in out
    assert receiver.titles == [f"checker of {tmp_path.name}: trial"]


@pytest.mark.parametrize("command", ["watch", "notify"])
def test_what_apprise_does_not_know_stops_the_start(tmp_path, command):
    where = ("--notify", f"nosuch://{TOKEN}") if command == "watch" else (f"nosuch://{TOKEN}",)
    started = program("checker", command, tmp_path, *where)
    out, _ = started.communicate(timeout=60)
    assert started.returncode == 2
    assert "is no channel that Apprise knows" in out
    assert TOKEN not in out
    assert len(out.splitlines()) == 1
