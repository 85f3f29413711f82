"""What the tests of all frameworks share: a real checker beside the trainings, and what stands in a run folder."""

import contextlib
import json
import threading
import warnings

import pytest
from processes import program, wait_until

from contract import Kill, StatusFile, last_watcher, request_kill


def needed(*names):
    """The frameworks, loaded; the tests that ask for them are skipped where one is missing.

    What a framework warns of while it is loaded is its own matter.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [pytest.importorskip(name) for name in names]


@contextlib.contextmanager
def checker_of(root):
    """A real daemon that watches `root`."""
    daemon = program("checker", "watch", root)
    try:
        wait_until(lambda: (last := last_watcher(root)) is not None and last.looking and last.beat_at is not None)
        yield
        assert daemon.poll() is None
    finally:
        daemon.terminate()
        daemon.communicate(timeout=30)


def rows(folder, event="step"):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if event in (None, row["event"])]


def losses(folder):
    """Step by step, as it stands in the log."""
    return {row["step"]: row["metrics"]["loss"] for row in rows(folder) if "loss" in row.get("metrics", ())}


def status(folder):
    return json.loads((folder / "training_status.json").read_text())


def findings(folder):
    path = folder / "findings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def acts(folder):
    return [line["act"] for line in findings(folder) if line["kind"] == "act"]


@contextlib.contextmanager
def asked_at(folder, step, **said):
    """Somebody who asks the run in `folder` to stop once it is past a step."""
    over = threading.Event()

    def ask():
        status_file = StatusFile(folder)
        while not over.wait(0.02):
            with contextlib.suppress(OSError, ValueError):
                now = status(folder)
                if now["state"] == "running" and (last_step(folder) or 0) >= step:
                    assert request_kill(status_file, Kill(id="k", reason="enough", run_id=now["run_id"], **said))
                    return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def last_step(folder):
    with contextlib.suppress(OSError, IndexError, KeyError):
        return json.loads((folder / "metrics.jsonl").read_bytes().rpartition(b"\n")[0].splitlines()[-1])["step"]
    return None
