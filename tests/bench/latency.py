"""From a NaN on disk to the kill request on disk, and until the process is gone: the real daemon, real processes.

Usage: python tests/bench/latency.py [RUNS]
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed

import contract

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "latency.md"

TRAINER = """
import sys, time
from dataclasses import asdict
from pathlib import Path
import contract
from contract import Appender, State, StatusFile, now, this_process

folder = Path(sys.argv[1])
folder.mkdir()
status, log = StatusFile(folder), Appender(folder / contract.METRICS)
run_id = folder.name
own = {"run_id": run_id, "state": "running", "started_at": now(), "process": asdict(this_process())}
status.edit(lambda document: {**document, **own})

def row(step, loss, norm):
    metrics = {"train_loss": loss, "grad_norm": norm}
    log.append({"event": "step", "timestamp": now(), "run_id": run_id, "step": step, "metrics": metrics})

for step in range(100):
    row(step, 2 - step / 100, 1.0)
    time.sleep(0.005)
row(100, "NaN", "NaN")
written = time.time()
last, step = None, 100
while True:  # the look of a real trainer, only more often: a stat, and a read when something changed
    found = contract.stamp(status.path.stat())
    if found != last:
        last = found
        kill = contract.pending_kill(status.read())
        if kill is not None:
            seen = time.time()
            status.edit(lambda document: {**document, "state": "killed", "ack": {"id": kill.id, "at": now()}})
            (folder / "seen.json").write_text(f"[{written!r}, {seen!r}]")
            sys.exit(3)
    time.sleep(0.0002)
"""


def measure(runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds until the request was visible, and until the process was gone, for each run."""
    asked, gone = [], []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "checker", "watch", str(root)]
        daemon = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        assert daemon.stdout is not None
        daemon.stdout.readline()
        try:
            for number in range(runs):
                folder = root / f"exp-{number:03}"
                trainer = subprocess.Popen([sys.executable, "-c", TRAINER, str(folder)], env=environment)
                code = trainer.wait(timeout=60)
                ended = time.time()
                assert code == contract.Exit.STOPPED, f"{folder.name} ended with code {code}"
                written, seen = json.loads((folder / "seen.json").read_text())
                asked.append(1000 * (seen - written))
                gone.append(1000 * (ended - written))
        finally:
            daemon.terminate()
            daemon.communicate(timeout=10)
    return asked, gone


def machine() -> str:
    """What the numbers were measured on, without naming it."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", info)
    kernel = platform.release().split("-")[0]
    cpu = model.group(1).strip() if model else platform.processor()
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()} {kernel}, Python {platform.python_version()}"


def table(asked: list[float], gone: list[float]) -> str:
    def line(what: str, values: list[float]) -> str:
        ordered = sorted(values)
        late = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
        return f"| {what} | {statistics.median(values):.1f} | {late:.1f} | {ordered[-1]:.1f} |"

    return "\n".join(
        [
            "# From a NaN to the kill request",
            "",
            f"{len(asked)} runs; the real daemon, its journal synced before anything is asked. Milliseconds from",
            "the moment the row with the NaN is written.",
            "",
            "| until | median | p99 | max |",
            "|---|---|---|---|",
            line("the request is seen in the status file", asked),
            line("the process is gone", gone),
            "",
            f"{machine()}. Made by `make bench-latency`.",
            "",
        ]
    )


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    text = table(*measure(runs))
    print(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
