"""`checker watch` as systemd and an operator have it: real processes, a real socket, a real page of numbers."""

import json
import os
import pty
import shutil
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from folders import Folder
from processes import ROOT, program, wait_until

import contract

STRICT = "[limits.explosion]\nunlearned_times = 2.0\n"
"""By these limits the run below has exploded; by the shipped ones it may still be a healthy one."""


def risen(folder):
    return (
        Folder(folder, start=time.time() - 100).rows(*[2.0] * 60, *[7.0] * 30).status(process=contract.this_process())
    )


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(20)
        self.heard = []

    def wait_for(self, text):
        while not any(text in known for known in self.heard):
            self.heard.append(self.socket.recv(4096).decode())
        return next(known for known in reversed(self.heard) if text in known)

    def forget(self):
        self.heard.clear()


def watch(root, *options, **environ):
    os.environ |= environ
    try:
        return program("checker", "watch", root, *options)
    finally:
        for name in environ:
            del os.environ[name]


@pytest.mark.parametrize("abstract", [False, True], ids=["a-path", "abstract"])
def test_the_manager_is_told_everything_and_sighup_takes_only_limits_that_are_right(tmp_path, abstract):
    address = f"@checker-{os.getpid()}" if abstract else str(tmp_path / "notify")
    manager = Manager("\0" + address[1:] if abstract else address)
    folder = risen(tmp_path / "runs" / "exp-001")
    root = folder.path.parent
    daemon = watch(root, "--observe", "--log-format", "json", NOTIFY_SOCKET=address, WATCHDOG_USEC="3000000")
    try:
        ready = manager.wait_for("READY=1")
        assert "STATUS=watching 1 run: 1 running" in ready
        assert not any("WATCHDOG=1" in known for known in manager.heard[:-1] if "READY=1" in known)
        manager.wait_for("WATCHDOG=1")
        assert folder.told() == []

        manager.forget()
        (root / "checker.toml").write_text("[limits.explosion]\nunlearnt_times = 2.0\n")
        daemon.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in manager.wait_for("RELOADING=1")
        assert "limits refused: " in manager.wait_for("READY=1")
        assert "checker.toml:2" in manager.heard[-1]

        manager.forget()
        (root / "checker.toml").write_text(STRICT)
        daemon.send_signal(signal.SIGHUP)
        assert "limits refused" not in manager.wait_for("READY=1")
        wait_until(lambda: folder.acts() == ["observed"], 10)

        manager.forget()
        daemon.send_signal(signal.SIGHUP)
        manager.wait_for("READY=1")
        daemon.terminate()
        manager.wait_for("STOPPING=1")
    finally:
        out, _ = daemon.communicate(timeout=20)
        manager.socket.close()
    assert daemon.returncode == 0
    assert folder.told() == ["r1/explosion/0/warning", "r1/explosion/0/critical"]
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["pid"] for line in lines} == {daemon.pid}
    own = [(line["event"], line["level"]) for line in lines if "run" not in line]
    assert own == [
        ("started", "info"),
        ("refused", "warning"),
        ("reloaded", "info"),
        ("reloaded", "info"),
        ("observed", "info"),
        ("stopped", "info"),
    ]
    found = [(line["run"], line["rule"], line["level"]) for line in lines if line["event"] == "finding"]
    assert found == [("exp-001", "explosion", "warning"), ("exp-001", "explosion", "critical")]
    assert "judging 1 run again from the first row" in next(
        line["text"] for line in lines if line["event"] == "reloaded"
    )


def test_sigterm_in_the_midst_of_a_backlog_leaves_at_once_and_everything_whole(tmp_path):
    first = Folder(tmp_path / "r-000", start=time.time() - 3000).rows(*[2.0] * 2000, "NaN").status("completed")
    for number in range(1, 150):
        shutil.copytree(first.path, tmp_path / f"r-{number:03}")
    daemon = program("checker", "watch", tmp_path)
    assert daemon.stdout.readline().startswith("watching ")
    wait_until(lambda: len(list(tmp_path.glob("*/findings.jsonl"))) > 5)
    began = time.monotonic()
    daemon.terminate()
    out, _ = daemon.communicate(timeout=20)
    assert time.monotonic() - began < 3  # about 0.6 s where there is a core for it; all 150 take 15 s
    assert daemon.returncode == 0
    assert out.splitlines()[-1] == f"stopped watching {tmp_path}: SIGTERM"
    journals = list(tmp_path.glob("*/findings.jsonl"))
    assert 5 < len(journals) < 150
    for journal in journals:
        text = journal.read_text()
        assert text.endswith("\n")
        assert [json.loads(line)["kind"] for line in text.splitlines()][:2] == ["file", "finding"]
    assert list(tmp_path.rglob("*.tmp")) == []
    pages = list(tmp_path.glob("*/diagnosis.md"))  # as many as there was time for
    assert all("nonfinite" in page.read_text() for page in pages)
    assert contract.last_watcher(tmp_path).ended


def test_prometheus_reads_what_happened_and_how_it_stands(tmp_path):
    pytest.importorskip("prometheus_client")
    folder = Folder(tmp_path / "exp", start=time.time() - 100).rows(*[2.0] * 20, "NaN")
    folder.status(process=contract.this_process())
    Folder(tmp_path / "done").rows(*[2.0] * 7).status("completed")
    daemon = program("checker", "watch", tmp_path, "--observe", "--metrics-port", 0)
    try:
        address = daemon.stdout.readline().split()[-1]
        wait_until(lambda: folder.acts() == ["observed"] and (folder.path / contract.DIAGNOSIS).exists())
        wait_until(lambda: "checker_reports_written_total 2.0" in page(address))
        told = page(address)
        second = program("checker", "watch", tmp_path / "exp", "--metrics-port", address.split(":")[-1].split("/")[0])
        said, _ = second.communicate(timeout=20)
    finally:
        daemon.terminate()
        daemon.communicate(timeout=20)
    assert second.returncode == 2
    assert "cannot be had (Address already in use)" in said
    for line in (
        'checker_runs{state="running"} 1.0',
        'checker_runs{state="completed"} 1.0',
        'checker_runs{state="stopping"} 0.0',
        'checker_findings_total{rule="nonfinite",severity="critical"} 1.0',
        'checker_kills_observed_total{rule="nonfinite"} 1.0',
        'checker_kills_forced_total{signal="sigkill"} 0.0',
        "checker_rows_read_total 28.0",
        "checker_rows_unreadable_total 0.0",
        "checker_runs_behind 0.0",
        'checker_reloads_total{outcome="refused"} 0.0',
    ):
        assert f"\n{line}\n" in told, line
    assert 'checker_build_info{python="' in told
    assert "exp" not in {word for line in told.splitlines() for word in line.split('"')[1::2]}  # no run has a label


def page(address):
    return urllib.request.urlopen(address, timeout=5).read().decode()


def test_a_table_ends_with_its_terminal_and_lines_go_on(tmp_path):
    """What a closed terminal does: the kernel sends SIGHUP, and whatever is written there fails."""
    Folder(tmp_path / "exp").rows(2.0).status("completed")
    lines = (tmp_path / "log").open("wb")
    for shown in (True, False):
        child, screen = pty.fork()
        if child == 0:
            os.chdir(ROOT)
            if not shown:
                os.dup2(lines.fileno(), 1)
            os.execv(sys.executable, [sys.executable, "-m", "checker", "watch", str(tmp_path)])
        wait_until(lambda: (found := contract.watcher(tmp_path)) and found.beat_at)
        os.close(screen)
        if shown:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert contract.last_watcher(tmp_path).ended
        else:
            wait_until(lambda: "limits read again: they are as they were" in Path(lines.name).read_text())
            assert contract.process_started(child)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    lines.close()


def test_a_checker_that_is_suspended_is_called_silent_and_one_that_was_killed_gone(tmp_path, call, monkeypatch):
    Folder(tmp_path / "exp").rows(2.0).status("completed")
    daemon = program("checker", "watch", tmp_path)
    try:
        wait_until(lambda: (found := contract.watcher(tmp_path)) and found.beat_at)
        assert f"watched by process {daemon.pid} on " in call("status", tmp_path)[1]
        daemon.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(contract, "SILENT", -1.0)  # at once instead of after half a minute
        assert "which has not looked for" in call("status", tmp_path)[1]
        code, out, _ = call("doctor", tmp_path)
        assert code == 2
        assert f"kill -CONT {daemon.pid}" in out
    finally:
        daemon.kill()
        daemon.communicate()
    assert "is gone without a word and last looked at" in call("status", tmp_path)[1]


def test_a_missing_extra_is_named(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    code, out, err = call("watch", tmp_path, "--metrics-port", "0")
    assert (code, out) == (2, "")
    assert err == "checker: --metrics-port needs the extra: pip install 'training-checker[metrics]'\n"
