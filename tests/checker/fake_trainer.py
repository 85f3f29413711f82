"""A trainer in sixty lines of standard library: writes rows, looks for a request, and behaves as told.

Usage: fake_trainer.py FOLDER [obey|ignore|hang|die|grave|finish] [nan_at] [step_seconds]
"""

import contextlib
import faulthandler
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import contract
from contract import Appender, State, StatusFile, now, pending_kill, this_process


class Trainer:
    def __init__(self, folder, manner, nan_at, pace):
        self.folder, self.manner, self.nan_at, self.pace = folder, manner, nan_at, pace
        folder.mkdir(parents=True, exist_ok=True)
        self.status = StatusFile(folder)
        self.log = Appender(folder / contract.METRICS)
        self.run_id = f"run-{time.time_ns()}"
        self.started = now()
        self.ack = None
        self.bell = False

    def tell(self, step, state=State.RUNNING):
        def change(document):
            kept = {"kill": document["kill"]} if "kill" in document else {}
            return {
                "v": 1,
                "run_id": self.run_id,
                "state": str(state),
                "step": step,
                "phase": "train",
                "phase_since": self.started,
                "started_at": self.started,
                "heartbeat_at": now(),
                "progress_at": now(),
                "process": asdict(this_process()),
                "ack": self.ack,
                "stack_signal": int(signal.SIGUSR1) if self.manner == "hang" else None,
                **kept,
            }

        with contextlib.suppress(contract.StatusBusy):
            self.status.edit(change)

    def row(self, step):
        bad = self.nan_at is not None and step >= self.nan_at
        values = (
            {"train_loss": "NaN", "grad_norm": "NaN"} if bad else {"train_loss": 2.0 - step / 1000, "grad_norm": 1.0}
        )
        self.log.append(
            {"v": 1, "event": "step", "timestamp": now(), "run_id": self.run_id, "step": step, "metrics": values}
        )

    def asked(self):
        try:
            kill = pending_kill(self.status.read() or {})
        except (contract.Unreadable, OSError):
            return False
        if kill is None or self.manner != "obey":
            return False
        self.ack = {"id": kill.id, "at": now(), "step": self.step}
        return True

    def train(self):
        if self.manner == "obey":
            signal.signal(signal.SIGTERM, lambda *_: setattr(self, "bell", True))
        elif self.manner in ("hang", "grave"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.manner == "hang":
            faulthandler.register(signal.SIGUSR1, file=(self.folder / contract.STACKS).open("w"))
        self.tell(0)
        for self.step in range(10_000):
            self.row(self.step)
            if self.asked() or self.bell:
                self.tell(self.step, State.KILLED)
                return 3
            if self.manner == "die" and self.nan_at is None and self.step == 20:
                return 1
            if self.manner == "finish" and self.step == 20:
                self.tell(self.step, State.COMPLETED)
                return 0
            if self.step % 20 == 0:
                self.tell(self.step)
            time.sleep(self.pace)
        return 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    folder = Path(arguments[0])
    manner = arguments[1] if len(arguments) > 1 else "obey"
    nan_at = json.loads(arguments[2]) if len(arguments) > 2 else None
    pace = float(arguments[3]) if len(arguments) > 3 else 0.01
    sys.exit(Trainer(folder, manner, nan_at, pace).train())
