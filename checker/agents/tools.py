"""What an agent may ask, without the library that carries it: values in, small answers out.

Everything comes from where the command line has it. What a run wrote is cleaned, cut to a length and never followed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import contract
from checker import limits, mask, replay, summary
from checker.agents.inside import Inside
from checker.clean import clean
from checker.feed.bell import Bell, Deadline
from checker.feed.reader import Reader
from checker.feed.waiting import APPEAR, SOON, Wait
from checker.places import FILES, folders, is_run
from checker.registry import verdict
from checker.registry.find import catalog
from checker.request import ask_to_stop
from checker.service import alive
from checker.terms import Complaint

PAGE = 8_000
"""Characters of one piece of a text, 2,000 tokens: a diagnosis is mostly shorter."""

FINDINGS = 10
"""Findings of a replay that are shown, the first ones."""

MAX_LOG = 256 << 20
"""Bytes of a log that is replayed here: some minutes. The command line has no limit."""

_NEVER = "not allowed here: the server was started without --allow-kill (checker mcp DIR --allow-kill)"

_FEED = ("seq", "at", "run", "kind", "severity", "rule", "state", "act", "step", "summary")

GivenUp = Callable[[], bool]


class Tools:
    """The answers about one folder.

    Args:
        root: the folder that `checker watch` was given.
        allow_kill: whether runs may be asked to stop.
    """

    def __init__(self, root: Path, *, allow_kill: bool = False) -> None:
        self.inside, self._allow_kill = Inside(root), allow_kill
        self.root = self.inside.root

    def list_runs(self, state: str | None, limit: int, offset: int) -> dict[str, Any]:
        """A page of the runs, those that have changed last first: ten thousand need not be read for twenty."""
        known = sorted(folders(self.root), key=_changed, reverse=True)
        skipped = offset if state is None else 0
        found, there = [], set()
        for folder in known[skipped:]:
            line = summary.line(folder, self.inside.name(folder))
            there.add(line.state)
            if state in (None, line.state):
                found.append(line)
            if len(found) > offset - skipped + limit:
                break
        if state is not None and known and not found:
            raise Complaint(f"state {clean(state, 40)}: no run's; there are: {', '.join(sorted(there))}")
        page = found[offset - skipped :][: limit + 1]
        return {
            "folder": str(self.root),
            "checker": clean(alive.ask(self.root).text),
            "total": len(known),
            "runs": [line.document() for line in page[:limit]],
            "next_offset": offset + limit if len(page) > limit else None,
        }

    def status(self, run: str) -> dict[str, Any]:
        """How a run stands now."""
        folder = self.inside.run(run)
        (line,) = summary.lines(folder)
        told = Wait(folder).until(end_only=False, timeout=0.0)
        shown = {name: value for name, value in line.document().items() if name in ("phase", "loss")}
        return {**_clean(told), **shown, "event": None if told["event"] == "timeout" else told["event"]}

    def page(self, run: str, name: str, offset: int) -> str:
        """A piece of one of the checker's pages about a run."""
        folder = self.inside.run(run)
        try:
            data, _ = contract.read_plain(folder / name)
        except FileNotFoundError:
            raise Complaint(
                f"{clean(run, 100)} has no {name} yet: is it watched? checker once {self.root} writes it"
            ) from None
        return paged(data.decode(errors="replace"), offset)

    def wait(self, run: str, until: str, since: int | None, timeout: float, given_up: GivenUp) -> dict[str, Any]:
        """What has happened to a run, as soon as something has."""
        deadline = Deadline(timeout)
        folder = self._appeared(run, Deadline(min(timeout, APPEAR)), given_up)
        wait = Wait(folder, since=since, given_up=given_up)
        return _clean(wait.until(end_only=until == "end", timeout=deadline.at_most(timeout)))

    def _appeared(self, run: str, patience: Deadline, given_up: GivenUp) -> Path:
        """A run's folder; one that is being started has a while to appear."""
        while not is_run(self.inside.path(run)) and not (patience.passed or given_up()):
            time.sleep(patience.at_most(SOON))
        return self.inside.run(run)

    def events(self, since: int | None, limit: int, timeout: float, given_up: GivenUp) -> dict[str, Any]:
        """What has happened to all runs after a place in the feed; without one, only where the feed ends."""
        reader = Reader(self.root / contract.EVENTS, since or 0)
        try:
            last = reader.last()
        except OSError:
            raise Complaint(f"no checker has watched {self.root} yet: checker watch {self.root}") from None
        if since is None:
            return {"events": [], "cursor": last, "more": False}
        if since > last:
            raise Complaint(f"since {since}: no place in the feed, whose last is {last}")
        found = self._heard(reader, Deadline(timeout), given_up)
        page = [{name: _short(line[name]) for name in _FEED if line.get(name) is not None} for line in found[:limit]]
        cursor = found[: limit or 1][-1]["seq"] if page else since
        return {"events": page, "cursor": cursor, "more": len(found) > limit}

    def _heard(self, reader: Reader, deadline: Deadline, given_up: GivenUp) -> list[dict[str, Any]]:
        bell = Bell(reader.path)
        try:
            while True:
                bell.listen()
                found = list(reader.read())
                if found or deadline.passed or given_up():
                    return found
                bell.wait(deadline.at_most(1.0))
        finally:
            bell.close()

    def kill(self, run: str, reason: str) -> str:
        """Asks a run to stop."""
        if not self._allow_kill:
            raise Complaint(_NEVER)
        if not reason.strip():
            raise Complaint("reason: say why, for whoever reads the diagnosis")
        return " ".join(ask_to_stop(self.inside.run(run), f"{clean(reason)} (asked through MCP)"))

    def replay(self, path: str) -> dict[str, Any]:
        """What the daemon would have done about a recorded run."""
        place = self.inside.path(path)
        file = place / contract.METRICS if place.is_dir() else place
        if file.exists() and file.stat().st_size > MAX_LOG:
            raise Complaint(f"{clean(path, 100)}: more than {MAX_LOG >> 20} MB; on the command line: checker replay")
        found = replay.read(place, limits=limits.in_force_above(place).limits).document()
        shown = ("rule", "severity", "action", "row", "step", "summary")
        findings = [{name: _short(finding[name]) for name in shown} for finding in found["findings"]]
        return {
            **{name: found[name] for name in ("rows", "unreadable", "verdict")},
            "findings": findings[:FINDINGS],
            "more_findings": max(0, len(findings) - FINDINGS),
            "cannot_judge": [_short(text) for text in found["cannot_judge"]],
        }

    def explain(self, rule: str | None, offset: int) -> str:
        """What a rule sees, or the list of all rules."""
        try:
            text = import_module("checker.report.explain").text(rule, limits.in_force(self.root).limits)
        except (KeyError, ValueError) as error:
            raise Complaint(str(error.args[0] if error.args else error)) from None
        return paged(text, offset)

    def verdict(self) -> dict[str, Any]:
        """Whether a loop of experiments should go on."""
        known = catalog(self.root)
        if not known:
            raise Complaint(f"{self.root}: no experiments yet, so nothing can be said about a loop of them")
        answer = verdict.judge(known, limits.in_force(self.root).loop)
        return _clean(verdict.document(answer))


def _changed(folder: Path) -> float:
    """When a run was last heard of."""
    known = [0.0]
    for name in FILES:
        with suppress(OSError):
            known.append(os.stat(folder / name).st_mtime)
    return max(known)


def paged(text: str, offset: int) -> str:
    """A piece of a text, and how to get the next one."""
    known = mask.secrets(mask.seen(text))
    piece = known[offset : offset + PAGE]
    if not piece and offset:
        raise Complaint(f"offset {offset}: the text has {len(known)} characters")
    left = len(known) - offset - len(piece)
    return f"{piece}\n[{left} more characters: offset={offset + len(piece)}]" if left > 0 else piece


def _short(value: object) -> object:
    return clean(value) if isinstance(value, str) else value


def _clean(document: dict[str, Any]) -> dict[str, Any]:
    return {name: _short(value) for name, value in document.items()}
