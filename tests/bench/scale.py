"""Thousands of live runs under one real checker on one core: delay, lost rows, processor time, memory; and its start.

Usage: python tests/bench/scale.py [--runs 100 1000 3000] [--seconds 60]

Another process writes the load (scale_load.py): one row a second from each run, each at its own time, a new status file
every ten seconds, and now and then a NaN. That run is then asked to stop through its status file, and does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed
sys.path.insert(0, str(Path(__file__).resolve().parent))

from table import commit, machine, markdown

import contract

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "scale.md"
LOAD = Path(__file__).with_name("scale_load.py")
PORT = 9187
BEAT = 10.0
"""Seconds between two statuses of a run."""

BEFORE = 300
"""Rows that a live run has when the checker starts."""

FINISHED_ROWS = 1000
SICK = 5.0
"""Runs that become NaN each second, at most one in four of all by the end."""


class Load:
    """The other process."""

    def __init__(self, root: Path, runs: int, before: int) -> None:
        command = [sys.executable, str(LOAD), str(root), str(runs), str(before)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def begin(self, name: str, *arguments: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        return self._answer()

    def __call__(self, name: str, *arguments: object) -> Any:
        self.begin(name, *arguments)
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


class Checker:
    """A real `checker watch` on one core."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "checker", "watch", str(root), "--metrics-port", str(PORT)]
        self.log = (root.parent / "checker.log").open("w")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self.log, stderr=self.log)
        os.sched_setaffinity(self.process.pid, {0})
        self.began = time.monotonic()

    @property
    def cpu(self) -> float:
        """Seconds of processor time."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> float:
        """Bytes in memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", text)
        assert found is not None
        return int(found[1]) * 1024.0

    def numbers(self) -> dict[str, float]:
        """What it says of itself, added up over all labels."""
        found: dict[str, float] = {}
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=30) as answer:
            for line in answer.read().decode().splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    key = name.partition("{")[0]
                    found[key] = found.get(key, 0.0) + float(value)
        return found

    def ready(self, runs: int, seconds: float = 600.0) -> float | None:
        """Waits for a while until every run has been read to its end; returns how long that took since the start."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now = self.numbers()
            if now.get("checker_runs", 0) + now.get("checker_runs_apart", 0) >= runs and not now["checker_runs_behind"]:
                return time.monotonic() - self.began
            time.sleep(0.5)
        return None

    def calm(self) -> float:
        """Waits until nothing is left to be done but to wait; returns how long it took."""
        began, busy = time.monotonic(), 1.0
        while busy > 0.05 and time.monotonic() - began < 600:
            before = self.cpu
            time.sleep(2.0)
            busy = (self.cpu - before) / 2.0
        return time.monotonic() - began

    def end(self) -> float:
        began = time.monotonic()
        self.process.terminate()
        self.process.wait()
        self.log.close()
        return time.monotonic() - began


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "experiments"
        root.mkdir()
        yield root


def live(runs: int, seconds: float) -> dict[str, float]:
    """One measurement with `runs` live runs."""
    with place() as root:
        load = Load(root, runs, BEFORE)
        checker = Checker(root)
        ready = None
        while ready is None:  # they write all the time: who stopped for half a minute would be taken for stalled
            load.begin("steady", 10.0, 0.0, BEAT)
            ready = checker.ready(runs, 9.0)
            load.end()
        load("steady", 20.0 + runs / 100, 0.0, BEAT)  # until everybody's first report is written
        cpu, rows, began = checker.cpu, checker.numbers()["checker_rows_read_total"], time.monotonic()
        told = load("steady", seconds, min(SICK, runs / 4 / seconds), BEAT)
        lasted = time.monotonic() - began
        share, memory = (checker.cpu - cpu) / lasted, checker.memory
        load("answer", 10.0)
        delays, wrong = _delays(root, told["sick"])
        burst = _burst(load, root, runs)
        written = load("count")["rows"]
        time.sleep(3.0 + runs / 2000)
        read = checker.numbers()["checker_rows_read_total"]
        time.sleep(60.0)  # by then every run that is silent has stalled, as far as anybody can tell
        calm = checker.calm()
        cpu, began = checker.cpu, time.monotonic()
        time.sleep(30.0)
        silent = (checker.cpu - cpu) / (time.monotonic() - began)
        left = checker.end()
        load.close()
        return {
            "runs": runs, "ready": ready, "share": share, "memory": memory, "p50": _quantile(delays, 0.5),
            "p99": _quantile(delays, 0.99), "max": max(delays), "findings": len(delays), "lost": written - read,
            "wrong": wrong, "written": written, "silent": silent, "calm": calm, "left": left, **burst,
            "late": told["late"], "steady_rows": rows,
        }  # fmt: skip


def _delays(root: Path, sick: dict[str, Any]) -> tuple[list[float], int]:
    """From the write of each NaN to the finding on disk; and how many findings are missing or about another row."""
    delays, wrong = [], 0
    for number, (at, row) in sick.items():
        found = None
        with suppress(OSError):
            for line in (root / f"exp-{int(number):05d}" / contract.FINDINGS).read_text().splitlines():
                entry = json.loads(line)
                if entry["kind"] == "finding" and entry["rule"] == "nonfinite":
                    found = entry
                    break
        if found is None or found["row"] != row:
            wrong += 1
        if found is not None:
            delays.append(datetime.fromisoformat(found["at"]).timestamp() - at)
    return delays, wrong


def _burst(load: Load, root: Path, runs: int) -> dict[str, float]:
    """The delay of others while one run writes 100,000 rows at once."""
    told = load("burst_among", 100_000, min(60.0, runs / 5), BEAT)
    time.sleep(5.0)
    delays, _ = _delays(root, told["sick"])
    return {"burst_p50": _quantile(delays, 0.5), "burst_max": max(delays, default=float("nan"))}


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def finished(runs: int) -> dict[str, float]:
    """How long a start takes over finished runs whose reports are current."""
    with place() as root:
        load = Load(root, 1, FINISHED_ROWS)
        first = root / "exp-00000"
        load("finish", 0)
        load.close()
        once = [sys.executable, "-m", "checker", "once", str(root)]
        subprocess.run(once, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True)
        for number in range(1, runs):
            shutil.copytree(first, root / f"exp-{number:05d}")
        live = Load(root / "zoo", 20, 100)
        checker = Checker(root)
        time.sleep(1.0)
        told = live("steady", 60.0, 0.2, BEAT)
        checker.ready(runs + 20)
        delays, wrong = _delays(root / "zoo", told["sick"])
        checker.calm()
        cpu, began = checker.cpu, time.monotonic()
        time.sleep(30.0)
        silent, memory = (checker.cpu - cpu) / (time.monotonic() - began), checker.memory
        checker.end()
        live.close()
        return {"runs": runs, "silent": silent, "memory": memory, "first": max(delays), "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 3000])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--finished", type=int, nargs="*", default=[10_000, 100_000])
    arguments = parser.parse_args()
    lives = []
    for runs in arguments.runs:
        lives.append(live(runs, arguments.seconds))
        print(json.dumps(lives[-1]), flush=True)
    over = []
    for runs in arguments.finished:
        over.append(finished(runs))
        print(json.dumps(over[-1]), flush=True)
    text = document(lives, over)
    print(text)
    RESULT.write_text(text, encoding="utf-8")


HEAD = (
    "One `checker watch` on one core, the load from another process on the other: one row a second from each run,",
    f"each at its own time, a new status file every {BEAT:.0f} s, {BEFORE} rows before the start. Some become NaN, are",
    "asked to stop, and do. Delay: from before the write of the NaN to the time in its journal entry, which is on disk",
    "(fsync) before the request is made. Burst: one run writes 100,000 rows at once. Silent: no run writes anything",
    "any more, and the stalls that this looks like have been told.",
)


def document(lives: list[dict[str, float]], over: list[dict[str, float]]) -> str:
    """The result as Markdown."""
    base = lives[0]
    lines = ["# Thousands of live runs", "", f"{datetime.now(UTC):%Y-%m-%d}, commit {commit()}. {machine()}.", ""]
    head = (
        "live runs",
        "delay p50",
        "p99",
        "longest",
        "findings",
        "rows written",
        "lost",
        "core used",
        "silent",
        "a run",
    )
    lines += [*HEAD, "", *markdown(head, [_load(found, base) for found in lives]), ""]
    lines += markdown(
        ("live runs", "all read after", "others in a burst: p50", "longest", "leaves after"),
        [
            (
                f"{found['runs']:,.0f}",
                f"{found['ready']:.0f} s",
                f"{1000 * found['burst_p50']:.1f} ms",
                f"{1000 * found['burst_max']:.0f} ms",
                f"{found['left']:.2f} s",
            )
            for found in lives
        ],
    )
    lines += ["", f"Finished runs of {FINISHED_ROWS} rows whose reports are current, beside 20 live ones:", ""]
    lines += markdown(
        ("finished runs", "longest delay of a live one from the start on", "silent", "memory"),
        [
            (
                f"{found['runs']:,.0f}",
                f"{found['first']:.2f} s",
                f"{100 * found['silent']:.1f} %",
                f"{found['memory'] / 1e6:.0f} MB",
            )
            for found in over
        ],
    )
    late = max(found["late"] for found in lives)
    lines += ["", f"The load was late by at most {late:.2f} s. Made by `make bench-scale`.", ""]
    return "\n".join(lines)


def _load(found: dict[str, float], base: dict[str, float]) -> tuple[str, ...]:
    """One line of the first table; memory is what a run more than in the first line takes."""
    more = found["runs"] - base["runs"]
    each = (
        f"{(found['memory'] - base['memory']) / more / 1000:.1f} kB"
        if more
        else f"{found['memory'] / 1e6:.0f} MB in all"
    )
    return (
        f"{found['runs']:,.0f}",
        f"{1000 * found['p50']:.1f} ms",
        f"{1000 * found['p99']:.0f} ms",
        f"{1000 * found['max']:.0f} ms",
        f"{found['findings']:.0f}, {found['wrong']:.0f} wrong",
        f"{found['written']:,.0f}",
        f"{found['lost']:.0f}",
        f"{100 * found['share']:.0f} %",
        f"{100 * found['silent']:.1f} %",
        each,
    )


if __name__ == "__main__":
    main()
