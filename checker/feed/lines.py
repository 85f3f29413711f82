"""From an entry of a run's journal to its line in the feed: small, on one line, without secrets.

Nothing is remembered between two entries. So the line that a checker would have written before it was killed is the one
that it writes after its restart, and its key says whether it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import contract
from checker.enforce import Did
from checker.events import Life
from checker.finding import Severity
from checker.journal import Entry
from checker.mask import plain
from checker.status import asked

ALERT, NOTE, RECOVERED, ACT, END, TROUBLE = "alert", "note", "recovered", "act", "end", "trouble"

ALIKE, HALT = "alike", "halt"
"""What is true of several runs of a folder: they failed the same way, and what is left of their sweep is to stop."""

CRASHED = "crashed"
"""The state of a run whose process is gone, and whose status file still says that it runs."""

SUMMARY = 200
"""Characters. Whoever reads the feed pays for every one of them."""

RUNS = 20
"""Runs, and settings, that a line about several names."""

_QUIET = (Did.LOOKED_AGAIN, Did.REASSERTED)
"""Steps between two others, of which nothing follows for whoever watches."""

_TEXT = {Did.REQUESTED: "asked to stop", Did.OBSERVED: "observed only", Did.RECOVERED: "recovered before the kill"}

_GRAVE = {
    contract.State.COMPLETED: Severity.INFO,
    contract.State.KILLED: Severity.WARNING,
    contract.State.ABORTED: Severity.WARNING,
}
"""How bad an end is; any other is critical."""


def key(entry: Entry, journal: bytes) -> int:
    """Eight bytes that tell this event from all others, in whatever folder the run lies by now.

    An entry is one event, since a journal holds each only once. The end of an attempt is an exception: it is journaled
    again when another row appears after it, and told again only when it has become another end.

    Args:
        entry: for which `is_told`.
        journal: what tells its journal from others. Two runs without ids may well have started in the same second.
    """
    told: object = entry
    if is_end(entry) and contract.number_in(entry.get("started_at")) is not None:
        told = [hashlib.blake2b(journal).hexdigest(), entry.get("run_id"), entry["started_at"], ended(entry)]
    return int.from_bytes(hashlib.blake2b(contract.encode(told), digest_size=8).digest())


def is_told(entry: Entry) -> bool:
    """Whether an entry is for the feed."""
    kind = entry.get("kind")
    quiet = kind == "act" and entry.get("act") in _QUIET
    return is_end(entry) or (kind in ("finding", "recovered", "act", "trouble", ALIKE, HALT) and not quiet)


def is_end(entry: Entry) -> bool:
    """Whether an entry is the look after which no more could come."""
    return entry.get("kind") == "tick" and entry.get("final") is True


def ended(look: Mapping[str, Any]) -> str:
    """How a run stood at a look after which no more could come."""
    state = look.get("state")
    return state if state in {state for state in contract.State if state.final} else CRASHED


def folder_line(entry: Entry, key: int, folder: str) -> dict[str, Any]:
    """What the feed says of an entry in the journal of a folder of runs.

    Args:
        entry: of the kind `alike` or `halt`.
        key: its key.
        folder: its path below the watched folder, `.` for that itself.
    """
    halt = entry["kind"] == HALT
    return {
        "at": entry.get("at"),
        "folder": folder,
        "kind": entry["kind"],
        "key": f"{key:016x}",
        "severity": str(Severity.INFO if halt else Severity.WARNING),
        "sweep": plain(entry.get("sweep") or "", 100) or None,
        **({"act": plain(entry.get("act"), 40)} if halt else {}),
        "failure": plain(entry.get("failure"), 120),
        "runs": [plain(run, 80) for run in _listed(entry.get("runs"))[:RUNS]],
        "shared": [plain(setting, 120) for setting in _listed(entry.get("told"))[:RUNS]],
        "summary": plain(entry.get("summary"), SUMMARY),
    }


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def line(entry: Entry, key: int, run: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What the feed says of an entry.

    Args:
        entry: for which `is_told`.
        key: its key.
        run: the run's path below the watched folder.
        document: its status file as it is now, for who asked it to stop.
    """
    told = _TELL[entry["kind"]](entry, document)
    summary = plain(told.pop("summary"), SUMMARY)
    place = contract.DIAGNOSIS if run == "." else f"{run}/{contract.DIAGNOSIS}"
    head = {"at": entry.get("at"), "run": run, "kind": told.pop("kind"), "key": f"{key:016x}"}
    return {**head, **told, "summary": summary, "diagnosis": place}


def _finding(entry: Entry, _: Mapping[str, Any]) -> dict[str, Any]:
    severity = entry.get("severity")
    known = severity if severity in list(Severity) else Severity.WARNING
    return {
        "kind": NOTE if known == Severity.INFO else ALERT,
        "severity": str(known),
        **_about(entry),
        "step": entry.get("step"),
        "summary": entry.get("summary"),
    }


def _recovered(entry: Entry, _: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": RECOVERED, "severity": str(Severity.INFO), **_about(entry), "summary": f"{entry.get('rule')}: over"}


def _about(entry: Entry) -> dict[str, Any]:
    return {"rule": plain(entry.get("rule"), 40), "episode": entry.get("episode")}


def _act(entry: Entry, _: Mapping[str, Any]) -> dict[str, Any]:
    act = plain(entry.get("act"), 40)
    severity = Severity.CRITICAL if act in (Did.CANNOT, Did.UNANSWERED) else Severity.INFO
    rule = entry.get("rule")
    summary = f"{_TEXT.get(Did(act), act) if act in list(Did) else act}: {entry.get('text')}"
    return {
        "kind": ACT,
        "severity": str(severity),
        "rule": plain(rule, 40) if rule is not None else None,
        "act": act,
        "summary": summary,
    }


def _end(entry: Entry, document: Mapping[str, Any]) -> dict[str, Any]:
    state = ended(entry)
    return {
        "kind": END,
        "severity": str(
            _GRAVE.get(contract.State(state), Severity.CRITICAL) if state != CRASHED else Severity.CRITICAL
        ),
        "state": state,
        "step": entry.get("step"),
        "summary": farewell(state, entry, document),
    }


def farewell(state: str, look: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """How a run ended and why, as one sentence."""
    step = look.get("step")
    why: object = None
    if state == CRASHED:
        why = "its process is gone and did not say goodbye"
    elif state == contract.State.KILLED:
        same = document.get("run_id") == look.get("run_id")
        why = asked(document) if same else None
        why = why or ("ended by the checker" if look.get("life") == Life.GONE else None)
    elif state != contract.State.COMPLETED:
        why = look.get("error")
    at = f" at step {step}" if step is not None else ""
    return plain(f"{state}{at}{f': {why}' if why else ''}", SUMMARY)


def _trouble(entry: Entry, _: Mapping[str, Any]) -> dict[str, Any]:
    summary = f"the checker cannot judge it: {entry.get('text')}"
    return {"kind": TROUBLE, "severity": str(Severity.CRITICAL), "summary": summary}


_TELL = {"finding": _finding, "recovered": _recovered, "act": _act, "tick": _end, "trouble": _trouble}
