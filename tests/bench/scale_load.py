"""The load for `scale.py`: one process that writes as thousands of trainers would, each row at its own time.

It obeys kill requests as a trainer does, in the status file, and reports what it wrote and when. Commands come as lines
of JSON on standard input and are answered by one line each.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed

import contract

TURN = 0.005
"""Seconds between two looks at the clock; rows that are due by then are written one by one."""


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


class Load:
    """`count` runs below `root`, each with `before` rows to begin with; they share one idle process."""

    def __init__(self, root: Path, count: int, before: int) -> None:
        self.idle = subprocess.Popen(["sleep", "infinity"])
        pid = self.idle.pid
        host = contract.this_process()
        self.process = contract.Process(
            pid=pid, host=host.host, boot_id=host.boot_id, started=contract.process_started(pid)
        )
        self.folders = [root / f"exp-{place:05d}" for place in range(count)]
        self.steps = [0] * count
        self.rows = [0] * count
        self.over: set[int] = set()
        self.asked: dict[int, float] = {}
        self.files: list[int] = []
        self.chance = random.Random(count)
        began = time.time() - before
        for place, folder in enumerate(self.folders):
            folder.mkdir(parents=True)
            self.status(place, "running")
            path = folder / contract.METRICS
            lines = [self.row(place, began + step) for step in range(before)]
            path.write_bytes(b"".join(lines))
            self.files.append(os.open(path, os.O_WRONLY | os.O_APPEND))

    def row(self, place: int, at: float, loss: object = None) -> bytes:
        """The next row of a run, in the format that our own trainer writes."""
        self.steps[place] += 1
        self.rows[place] += 1
        step = self.steps[place]
        value = 0.6 + 1.9 / (1 + 0.01 * step) + self.chance.gauss(0, 0.03) if loss is None else loss
        shown = json.dumps(value)
        return (
            f'{{"v": 1, "event": "step", "timestamp": "{stamp(at)}", "experiment_id": "exp-{place:05d}", '
            f'"run_id": "run-{place}", "step": {step}, "metrics": {{"train_loss": {shown}, '
            f'"grad_norm": {abs(self.chance.gauss(1, 0.2))!r}}}, "learning_rate": 0.001, '
            f'"wall_time_seconds": {float(step)}}}\n'
        ).encode()

    def status(self, place: int, state: str, **more: Any) -> None:
        now = stamp(time.time())
        document = {
            "v": 1, "state": state, "experiment_id": f"exp-{place:05d}", "run_id": f"run-{place}",
            "step": self.steps[place], "phase": "train", "started_at": stamp(time.time() - 900), "heartbeat_at": now,
            "progress_at": now, "process": self.process.__dict__, "kill": None, **more,
        }  # fmt: skip
        path = self.folders[place] / contract.STATUS
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps(document, indent=1))
        os.replace(beside, path)

    def write(self, place: int, loss: object = None) -> float:
        """Appends one row; returns the time just before the write."""
        data = self.row(place, time.time(), loss)
        at = time.time()
        os.write(self.files[place], data)
        return at

    def obey(self) -> None:
        """Answers the requests that runs with a NaN have been sent meanwhile."""
        for place in list(self.asked):
            try:
                document = json.loads((self.folders[place] / contract.STATUS).read_text())
            except (OSError, ValueError):
                continue
            kill = document.get("kill")
            if isinstance(kill, dict):
                del self.asked[place]
                self.status(place, "killed", kill=kill, ack={"id": kill["id"], "at": stamp(time.time()), "step": 0})

    def steady(self, seconds: float, sick_each_second: float, beat: float) -> dict[str, Any]:
        """One row a second from each run; now and then one becomes NaN. `beat`: seconds between two statuses."""
        places = [place for place in range(len(self.folders)) if place not in self.over]
        self.chance.shuffle(places)
        count, began = len(places), time.monotonic()
        written, beats, sick, late = 0, 0, {}, 0.0
        victims = list(places)
        self.chance.shuffle(victims)
        next_obey = 0.0
        while (passed := time.monotonic() - began) < seconds:
            due = int(passed * count)
            late = max(late, (due - written) / count)
            while written < due:
                place = places[written % count]
                written += 1
                if place not in self.over:
                    self.write(place)
            while victims and len(sick) < passed * sick_each_second:
                place = victims.pop()
                sick[place] = (self.write(place, "NaN"), self.rows[place] - 1)
                self.over.add(place)
                self.asked[place] = time.monotonic()
            while beat and beats < passed * count / beat:
                place = places[beats % count]
                beats += 1
                if place not in self.over:
                    self.status(place, "running")
            if passed > next_obey:
                self.obey()
                next_obey = passed + 0.2
            time.sleep(TURN)
        return {"sick": sick, "written": written, "late": late, "seconds": time.monotonic() - began}

    def burst_among(self, rows: int, sick: float, beat: float) -> dict[str, Any]:
        """One run writes `rows` rows at once; in the seconds after that others become NaN."""
        place = next(place for place in range(len(self.folders)) if place not in self.over)
        view = memoryview(b"".join(self.row(place, time.time()) for _ in range(rows)))
        while view:
            view = view[os.write(self.files[place], view) :]
        return self.steady(3.0, sick / 3.0, beat)

    def finish(self, place: int) -> None:
        """The run says that it is complete."""
        self.over.add(place)
        self.status(place, "completed")

    def count(self) -> dict[str, Any]:
        """Rows written so far, all runs together."""
        return {"rows": sum(self.rows)}

    def answer(self, seconds: float) -> dict[str, Any]:
        """Obeys for a while."""
        until = time.monotonic() + seconds
        while self.asked and time.monotonic() < until:
            self.obey()
            time.sleep(0.05)
        return {"unasked": len(self.asked)}


def main() -> None:
    load = Load(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps({"ready": True}), flush=True)
    try:
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            print(json.dumps(getattr(load, name)(*arguments) or {}), flush=True)
    finally:
        load.idle.kill()
        load.idle.wait()


if __name__ == "__main__":
    main()
