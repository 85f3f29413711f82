"""Run folders for tests: written as a trainer would write them, and judged without a daemon or a clock."""

import json
import os
import types
from dataclasses import asdict

import contract
from checker import judge
from checker.detectors import Rule
from checker.events import Life
from checker.finding import Grade, Sighting
from checker.run import Run
from checker.terms import Mode, Moment

START = 1_700_000_000.0


def iso(at):
    return contract.datetime.fromtimestamp(at, contract.UTC).isoformat()


class Folder:
    """One run folder and a trainer's hand on it."""

    def __init__(self, path, run_id="r1", start=START):
        self.path, self.run_id, self.step, self.start = path, run_id, 0, start
        path.mkdir(parents=True, exist_ok=True)

    def rows(self, *losses, grad=1.0, **fields):
        with (self.path / contract.METRICS).open("a") as file:
            for loss in losses:
                norm = loss if isinstance(loss, str) else grad
                row = {
                    "step": self.step,
                    "timestamp": iso(self.start + self.step),
                    "metrics": {"loss": loss, "grad_norm": norm},
                }
                if self.run_id:
                    row["run_id"] = self.run_id
                file.write(json.dumps({**row, **fields}) + "\n")
                self.step += 1
        return self

    def status(self, state="running", process=None, **fields):
        known = self.document()
        own = {"state": state, "run_id": self.run_id, "step": self.step, "started_at": iso(self.start - 1), **fields}
        if process is not None:
            own["process"] = asdict(process)
        contract.replace(self.path / contract.STATUS, contract.encode({**known, **own}))
        return self

    def document(self):
        return contract.StatusFile(self.path).read() or {}

    def journal(self, *kinds):
        path = self.path / contract.FINDINGS
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [entry for entry in found if not kinds or entry["kind"] in kinds]

    def acts(self):
        return [entry["act"] for entry in self.journal("act")]

    def told(self):
        return [entry["id"] for entry in self.journal("finding")]


class Watcher:
    """A run under watch, with a clock that only moves when told."""

    def __init__(self, folder, mode=Mode.ACT, at=START + 12, limits=None):
        self.run, self.at, self.mono, self.notices = Run(folder.path, folder.path.name, mode, limits), at, 1000.0, []
        self.slept = 0.0

    def turn(self, after=0.0, *, beat=True):
        self.at, self.mono = self.at + after, self.mono + after
        self.notices += self.run.turn(Moment(self.at, self.mono, self.slept), beat=beat)
        return self

    def turns(self, count, after=1.0):
        for _ in range(count):
            self.turn(after)
        return self


def again(daemon):
    """A round of a daemon in which so much time has passed that everybody has a turn."""
    daemon._next_beat = daemon.alarm._next_poll = 0.0
    for fault in daemon._faults.values():
        fault.until = 0.0
    for run in daemon.runs.values():
        daemon._agenda.plan(run, 0.0)
    daemon.round(wait=False)


def sighting(history, grade, summary, evidence):
    return Sighting(
        grade=grade, first_row=history.index, first_step=history.step, summary=summary, evidence=evidence, against=()
    )


def silence(history, _):
    """A stand-in for a rule about silence: sure when nothing has moved for 60 s while the process lives."""
    tick = history.tick
    if tick is None or tick.progress_at is None or tick.now - tick.progress_at < 60 or tick.life is Life.GONE:
        return None
    return sighting(history, Grade.SURE, "nothing moves", {"seconds": tick.now - tick.progress_at})


def ending(history, _):
    """A stand-in for a rule about endings: gone without goodbye."""
    tick = history.tick
    if tick is None or tick.life is not Life.GONE or tick.state != "running":
        return None
    return sighting(history, Grade.SURE, "gone without a goodbye", {"gone_since": tick.gone_since})


def overdue(history, _):
    """A stand-in for a rule that comes and goes by the clock."""
    tick = history.tick
    if tick is None or tick.now % 100 < 50:
        return None
    return sighting(history, Grade.SUSPECT, "overdue", {"now": tick.now})


def rule(name, detect):
    module = types.SimpleNamespace(__name__=f"checker.detectors.{name}", detect=detect, LIMITS=None)
    return Rule(module, on_tick=True)


def with_clock_rules(monkeypatch):
    kept = tuple(known for known in judge.RULES if known.name == "nonfinite")
    made = (rule("stall", silence), rule("crash", ending), rule("checkpoint_overdue", overdue))
    monkeypatch.setattr(judge, "RULES", kept + made)


def gone_process():
    """A process of this boot that is certainly gone."""
    come, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.read(come, 1)  # until the start time has been read: one that has ended has none
        os._exit(0)
    started = contract.process_started(pid)
    os.close(go)
    os.waitpid(pid, 0)
    os.close(come)
    return contract.Process(pid=pid, host=contract.this_process().host, boot_id=contract.boot_id(), started=started)
