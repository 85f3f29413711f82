"""A real `checker watch` that is suspended, or runs out of file descriptors, in the midst of its work."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folders import Folder
from processes import ROOT, wait_until

import contract

FAKE = Path(__file__).parents[1] / "checker/fake_trainer.py"
WATCH = "import sys; from checker import cli, naps; naps.NAP = 0.3; sys.exit(cli.main(['watch', sys.argv[1]]))"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def started():
    with contextlib.ExitStack() as stack:

        def start(*command, **named):
            child = subprocess.Popen([sys.executable, *map(str, command)], env=ENVIRONMENT, **named)
            stack.callback(child.wait)
            stack.callback(child.kill)
            return child

        yield start


def suspended(checker):
    checker.send_signal(signal.SIGSTOP)
    return lambda: checker.send_signal(signal.SIGCONT)


def starved(checker):
    before = resource.prlimit(checker.pid, resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir(f"/proc/{checker.pid}/fd")))
    del used  # every number below is taken or refused: nothing can be opened any more
    resource.prlimit(checker.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    return lambda: resource.prlimit(checker.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("fault", [suspended, starved], ids=["suspended", "without file descriptors"])
def test_a_real_checker_that_is(tmp_path, started, fault):
    checker = started("-c", WATCH, tmp_path, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert checker.stdout.readline().startswith("watching ")
    early = started(FAKE, tmp_path / "early", "grave", 10)  # asked before, and deaf: it must not be forced for that
    healthy = started(FAKE, tmp_path / "healthy", "obey")
    wait_until(lambda: "requested" in Folder(tmp_path / "early").acts())
    undo = fault(checker)
    doomed = started(FAKE, tmp_path / "doomed", "obey", 5)
    wait_until(lambda: b"NaN" in _read(tmp_path / "doomed" / contract.METRICS))
    time.sleep(1.0)
    assert doomed.poll() is None
    undo()
    assert doomed.wait(20) == contract.Exit.STOPPED
    wait_until(lambda: "stopped" in Folder(tmp_path / "doomed").acts())
    assert Folder(tmp_path / "doomed").acts() == ["looked-again", "requested", "acknowledged", "stopped"]
    assert Folder(tmp_path / "early").acts() == ["looked-again", "requested"]
    assert Folder(tmp_path / "healthy").told() == []
    assert early.poll() is healthy.poll() is checker.poll() is None
    checker.terminate()
    text, _ = checker.communicate(timeout=10)
    assert "gone" not in text
    told = [line for line in text.splitlines() if "cannot be judged" in line]
    assert len(told) <= 1  # of the run that came when none could be opened, which is tried again soon
    assert all(" doomed " in line for line in told)


def _read(path):
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""
