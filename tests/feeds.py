"""Feeds written by hand: what a checker would have told, without one."""

import json

import contract

AT = "2026-11-21T17:03:55.000001+00:00"


def alert(run, rule="explosion", severity="critical", summary="train_loss exploded to 99.06", **fields):
    fields = {"step": 160, "episode": 0, **fields}
    return {"run": run, "kind": "alert", "rule": rule, "severity": severity, "summary": summary, **fields}


def act(run, act, rule="explosion", **fields):
    severity = "critical" if act in ("cannot", "unanswered") else "info"
    return {"run": run, "kind": "act", "act": act, "rule": rule, "severity": severity, "summary": f"{act}: x", **fields}


def end(run, state, step=161, **fields):
    severity = {"completed": "info", "killed": "warning", "aborted": "warning"}.get(state, "critical")
    told = f"{state} at step {step}"
    return {"run": run, "kind": "end", "state": state, "severity": severity, "step": step, "summary": told, **fields}


def trouble(run):
    return {"run": run, "kind": "trouble", "severity": "critical", "summary": "the checker cannot judge it: OSError"}


DOOMED = (
    alert("exp-001", severity="warning", summary="train_loss rises"),
    alert("exp-001"),
    act("exp-001", "requested"),
    act("exp-001", "acknowledged"),
    end("exp-001", "killed"),
    act("exp-001", "stopped"),
)
"""What an obedient run leaves that is stopped."""


def numbered(events, first=1001):
    """The lines as a feed holds them."""
    return [
        {"seq": first + number, "at": AT, "key": f"{first + number:016x}", "diagnosis": "diagnosis.md", **event}
        for number, event in enumerate(events)
    ]


class Written:
    """A feed that grows when told."""

    def __init__(self, root, clock=lambda: 0.0):
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.path, self._next, self._clock = root, root / contract.EVENTS, 1001, clock

    def add(self, *events):
        lines = numbered(events, max(self._next, round(self._clock() * 1000)))
        self._next = lines[-1]["seq"] + 1
        with self.path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return self
