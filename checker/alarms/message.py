"""What people read: which run, what is wrong with a number, what was done or is to be done, and where the report lies.

All of it came from a run, so it is plain text of bounded length, without secrets, and without anything by which a chat
would call people: a run named `@everyone` must not wake everyone.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import contract
from checker.alarms.incidents import CRASH, Incident, Line
from checker.enforce import Did
from checker.feed import lines
from checker.finding import Severity
from checker.mask import plain
from checker.wording import count

NAMES = 10
"""Runs that a message about many names."""

KINDS = 6
"""Kinds of trouble that it counts."""

_NAME, _SUMMARY, _PATH = 80, lines.SUMMARY, 1000


@dataclass(frozen=True)
class Message:
    """One alarm."""

    title: str
    body: str
    severity: Severity
    id: str
    """Which it is. After a crash in the wrong moment a message may come twice, with the same id."""


@dataclass(frozen=True)
class Place:
    """The watched folder, as a reader far away needs it."""

    root: Path
    host: str

    def path(self, *parts: str) -> str:
        """A path that can be copied into a terminal or after `scp`."""
        return f"{self.host}:{self.root.joinpath(*parts)}"

    def run(self, run: str) -> Path:
        return self.root if run == "." else self.root / run

    def called(self, run: str) -> str:
        return self.root.name if run == "." else run


def harmless(text: object, limit: int) -> str:
    """`text` as one line that no chat reads as a call to people."""
    return plain(text, limit).replace("@", "(at)").replace("<", "\u2039").replace(">", "\u203a")


def one(incident: Incident, place: Place) -> Message:
    """The message about one run."""
    main, run = incident.main, place.called(incident.run)
    others = sorted(incident.rules - {str(main.get("rule"))})
    also = f"; also {', '.join(others)}" if others else ""
    what = f"{_summary(main)}{also}"
    report = place.path(str(PurePosixPath(incident.run) / contract.DIAGNOSIS))
    told = [
        harmless(what, _SUMMARY + 100),
        harmless(_done(incident, place), _SUMMARY + _PATH),
        harmless(report, _PATH),
        f"{_clock(main)}event {harmless(incident.id, 20)}",
    ]
    title = f"{harmless(run, _NAME)}: {harmless(headline(incident), 80)}"
    return Message(title, "\n".join(told), _severity(incident), incident.id)


def headline(incident: Incident) -> str:
    """What has happened, in a few words."""
    main, end = incident.main, incident.end
    if main["kind"] == lines.ALERT:
        what = f"{main.get('rule')} ({main.get('severity')})"
        if main.get("rule") == CRASH and end is None:
            return what
        return f"{what}, {end.get('state')}" if end is not None else f"{what}, {_asked(incident.act) or 'goes on'}"
    if main["kind"] == lines.END:
        return str(main.get("state"))
    return "cannot be judged" if main["kind"] == lines.TROUBLE else "does not stop"


def _asked(act: Line | None) -> str:
    """What was done to stop the run, in a word or two."""
    did = act.get("act") if act is not None else None
    if did in (Did.CANNOT, Did.UNANSWERED):
        return "does not stop"
    if did == Did.OBSERVED:
        return "observed only"
    return "" if did in (None, Did.RECOVERED) else "asked to stop"


def _summary(line: Line) -> str:
    step = line.get("step")
    at = f" (step {step})" if step is not None and line["kind"] == lines.ALERT else ""
    return f"{line.get('summary')}{at}"


def _done(incident: Incident, place: Place) -> str:
    """What the checker did; where it did nothing, what somebody can do."""
    main, act, end = incident.main, incident.act, incident.end
    did = act.get("act") if act is not None else None
    if act is not None and did in (Did.CANNOT, Did.UNANSWERED) and end is None:
        return f"{'' if act is main else str(act.get('summary')) + '; '}it still runs: see to it"
    if end is not None:
        return _ended(incident, end)
    if main["kind"] == lines.TROUBLE:
        return "it is not judged meanwhile; the checker tries again every few minutes"
    if main.get("rule") == CRASH:
        return "nothing is left to be stopped; next.md beside the report says what to try"
    if did == Did.OBSERVED:
        return "observed only: it was not asked to stop, and goes on"
    if did == Did.RECOVERED:
        return "it recovered before it was asked to stop, and goes on"
    if did is not None:
        return (
            "it did not answer in time: forced to stop" if incident.forced else "it was asked to stop; it saves itself"
        )
    return f"it goes on; to stop it: checker kill {shlex.quote(str(place.run(incident.run)))} --reason TEXT"


def _ended(incident: Incident, end: Line) -> str:
    """What is to be said of a run that is over."""
    step = f" at step {end['step']}" if end.get("step") is not None else ""
    if end.get("state") == contract.State.KILLED and incident.act is not None:
        how = "it did not answer and was forced to stop" if incident.forced else "it was asked to stop and did"
        return f"{how}; killed{step}; next.md beside the report says what to try"
    over = f"it is over ({end.get('state')}{step}); " if incident.main is not end else "it is over; "
    return f"{over}the report says why, and next.md beside it what to try"


def many(incidents: Sequence[Incident], place: Place) -> Message:
    """The message about all that there were too many of."""
    grave = sum(incident.grave for incident in incidents)
    ordered = sorted(incidents, key=lambda incident: (not incident.grave, incident.first))
    known = Counter(headline(incident) for incident in ordered).most_common()
    kinds = [f"{number} x {harmless(what, 80)}" for what, number in known[:KINDS]]
    names = [harmless(place.called(incident.run), 40) for incident in ordered[:NAMES]]
    first, last = min(incident.first for incident in incidents), max(incident.last for incident in incidents)
    told = [
        _listed(kinds, len(known), "other kind"),
        _listed(names, len(ordered), "other run"),
        harmless(place.path(contract.CHECKLIST), _PATH),
        f"all of it: checker events {harmless(shlex.quote(str(place.root)), _PATH)} --since {first - 1}",
    ]
    title = f"{count(len(incidents), 'run')} need a look, {grave} critical"
    severity = Severity.CRITICAL if grave else Severity.WARNING
    return Message(title, "\n".join(told), severity, f"{first}-{last}")


def _listed(some: Sequence[str], number: int, what: str) -> str:
    left = number - len(some)
    return ", ".join(some) + (f" and {count(left, what)}" if left > 0 else "")


def about_checker(text: str, place: Place, severity: Severity, id_: str) -> Message:
    """The message about the checker itself."""
    todo = f"see how it is: checker doctor {shlex.quote(str(place.root))}"
    body = [harmless(text, _SUMMARY), harmless(todo, _PATH), harmless(place.path(), _PATH)]
    return Message(f"checker of {harmless(place.root.name, _NAME)}", "\n".join(body), severity, id_)


def trial(place: Place, id_: str) -> Message:
    """The message that shows that a channel works."""
    text = "this is a trial: alarms about the runs below this folder come this way"
    return Message(f"checker of {harmless(place.root.name, _NAME)}: trial", f"{text}\n{harmless(place.path(), _PATH)}",
                   Severity.INFO, id_)  # fmt: skip


def _severity(incident: Incident) -> Severity:
    return Severity.CRITICAL if incident.grave else Severity.WARNING


def _clock(line: Line) -> str:
    """When it was noticed, as far as that is known."""
    at: Any = line.get("at")
    return f"{at[:10]} {at[11:19]} UTC, " if isinstance(at, str) and len(at) >= 19 and at.isascii() else ""
