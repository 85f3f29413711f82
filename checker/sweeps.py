"""What is true of several runs of a sweep: said once, and if the policy says so, what is left of the sweep is stopped.

It looks when a run has failed, and at nothing that the list of all runs has not read already. Each folder of runs has a
journal for it, `findings.jsonl` beside the run folders: what stands there has been said and is not said again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import contract
from checker import enforce, journal
from checker.feed import lines
from checker.feed.feed import Feed
from checker.finding import SWEEP, Severity
from checker.registry import alike, policy
from checker.registry.catalog import Entry, each
from checker.registry.record import config_of
from checker.rows import seconds
from checker.run import Run
from checker.terms import Mode, Notice

LOOSE_SECONDS = 86400.0
"""Runs that name no sweep count as one for a day: a folder of single tries has failures of all its years."""

OBSERVED, REQUESTED = "observed", "requested"


class Halt(NamedTuple):
    """An order to stop what is left of a sweep."""

    id: str
    sweep: str
    reason: str
    only: tuple[contract.Setting, ...]


class Sweeps:
    """The sweeps below one watched folder.

    Args:
        root: the watched folder.
        mode: how far it may go.
        tell: shows notices to whoever watches.
        feed: the feed, where there is one.
        runs: the runs under watch.
        stop: wishes to stop one of them, anew or only if that was begun.
    """

    def __init__(
        self,
        root: Path,
        mode: Mode,
        *,
        tell: Callable[[Iterable[Notice]], object],
        feed: Callable[[], Feed | None],
        runs: Callable[[], Iterable[Run]] = lambda: (),
        stop: Callable[[Run, contract.Kill, bool], object] = lambda *_: None,
    ) -> None:
        self.policy = policy.SWEEP
        self._root, self._mode = root, mode
        self._tell, self._feed, self._runs, self._stop = tell, feed, runs, stop
        self._known: set[Path] = set()
        """Folders of runs."""
        self._due: dict[Path, None] = {}
        """Those in which a run has failed since they were last looked at."""
        self._failed: dict[Path, object] = {}
        """How each run had failed when it was last reported."""
        self._journals: dict[Path, _Journal] = {}
        self._halts: dict[tuple[Path, str], list[Halt]] = {}
        self._troubles: dict[Path, str] = {}
        """What keeps folders from being looked at, as it was told."""

    def arrived(self, folder: Path) -> None:
        """There is a run folder; what its folder has said before is looked at in time."""
        above = folder.parent
        if folder != self._root and above not in self._known:
            self._known.add(above)
            self._due[above] = None

    def gone(self, folder: Path) -> None:
        self._failed.pop(folder, None)

    def reported(self, run: Run) -> None:
        """A run's reports have been written: has it failed, or is it left of a sweep that is to stop?"""
        if run.folder == self._root:
            return
        failure = _failing(run)
        if failure is not None and self._failed.get(run.folder) != failure:
            self._failed[run.folder] = failure
            self._due[run.folder.parent] = None
        if self._halts:
            self._ask(run)

    def steps(self) -> Iterator[None]:
        """Looks at the folders in which a run has failed, a bit each time that the answer is advanced."""
        for folder in list(self._due):
            del self._due[folder]
            try:
                yield from self._look(folder)
                self._troubles.pop(folder, None)
            except FileNotFoundError:  # the folder is gone
                self._journals.pop(folder, None)
            except (OSError, contract.Unreadable) as error:
                self._due[folder] = None
                self._complain(folder, f"what its runs have in common cannot be said ({error})")

    def _complain(self, folder: Path, text: str) -> None:
        if self._troubles.get(folder) != text:
            self._troubles[folder] = text
            self._tell([Notice(self._name(folder, ""), text, Severity.WARNING)])

    # ----------------------------------------------------------------------------------------------------- looking

    @property
    def _least(self) -> int:
        """So many alike are worth a word, fewer if the policy stops for fewer."""
        return min(alike.LEAST, max(2, self.policy.stop_after_alike or alike.LEAST))

    def _look(self, folder: Path) -> Iterator[None]:
        kept = self._journal(folder)
        entries: list[Entry] = []
        for entry in each(folder):
            if entry is not None:
                entries.append(entry)
            yield
        for sweep, siblings in alike.by_sweep((entry.sweep, _sibling(entry)) for entry in entries).items():
            found = alike.groups(siblings, self._least)
            if found and not sweep:
                found = alike.groups([one for one in siblings if _touched(folder / one.name)])
            for group in found:
                yield from self._weigh(folder, kept, sweep, group)

    def _weigh(self, folder: Path, kept: _Journal, sweep: str, group: alike.Alike) -> Iterator[None]:
        """Says of a group what was not said before."""
        new = not kept.said(sweep, group.failure)
        may_stop = sweep and self._mode is not Mode.JUDGE and not kept.ordered(sweep, group.failure, self._mode)
        enough = 0 < self.policy.stop_after_alike <= len(group.failed)
        if not new and not (may_stop and enough):
            return
        configs: dict[str, Mapping[str, Any]] = {}
        for name in (*group.failed, *group.sound):
            configs[name] = config_of(str(folder / name))
            yield
        group = group._replace(
            shared=alike.shared([configs[name] for name in group.failed], [configs[name] for name in group.sound])
        )
        if new:
            self._say(folder, kept, sweep, group)
        only = alike.left(group, self.policy.stop_after_alike) if may_stop else None
        if only is not None:
            self._order(folder, kept, sweep, group, only)

    def _journal(self, folder: Path) -> _Journal:
        """The journal of a folder of runs.

        With the first look at it the feed hears what an earlier checker could not tell, and the orders that it gave are
        in force.
        """
        kept = self._journals.get(folder)
        if kept is None:
            feed = self._feed()
            hear = feed.listen_to_all(folder) if feed is not None else lambda _: None
            kept = self._journals[folder] = _Journal(folder, hear)
            for entry in kept.entries:
                if entry["kind"] == lines.HALT and entry.get("act") == REQUESTED and self._mode is Mode.ACT:
                    self._carry_out(folder, kept, _halt(entry))
        return kept

    # ----------------------------------------------------------------------------------------------------- acting

    def _say(self, folder: Path, kept: _Journal, sweep: str, group: alike.Alike) -> None:
        text = alike.sentence(group)
        kept.write(lines.ALIKE, {**_about(sweep, group), "summary": text})
        self._tell([Notice(self._name(folder, sweep), text, Severity.WARNING, SWEEP, lines.ALIKE)])

    def _order(
        self, folder: Path, kept: _Journal, sweep: str, group: alike.Alike, only: tuple[contract.Setting, ...]
    ) -> None:
        """Orders what is left of a sweep to stop: first the journal, then the note for who starts runs, then the runs.

        A sweep whose id is no name for a file gets no order: nobody could take it back.
        """
        if contract.sweep_stop_file(folder, sweep) is None:
            return
        which = " and ".join(map(alike.told, only))
        reason = f"{alike.sentence(group)}; stopping what is left{f' with {which}' if which else ''}"
        act = OBSERVED if self._mode is Mode.OBSERVE else REQUESTED
        content = {**_about(sweep, group), "act": act, "only": [asdict(one) for one in only], "summary": reason}
        entry = kept.write(lines.HALT, {"id": _short(f"{sweep} {group.failure}"), **content}, sync=True)
        said = "would stop" if act == OBSERVED else "stop requested"
        self._tell([Notice(self._name(folder, sweep), f"{said}: {reason}", Severity.INFO, SWEEP, lines.HALT)])
        self._carry_out(folder, kept, _halt(entry))

    def _carry_out(self, folder: Path, kept: _Journal, halt: Halt) -> None:
        """Leaves the note, once, and remembers whom to ask. Who removes the note takes the order back."""
        path = contract.sweep_stop_file(folder, halt.sweep)
        if path is None:
            return
        if self._mode is Mode.ACT and not kept.noted(halt.id):
            note = contract.SweepStop(
                id=halt.id,
                sweep=halt.sweep,
                reason=halt.reason,
                rule=SWEEP,
                requested_by="checker",
                requested_at=contract.now(),
                only=halt.only,
            )
            contract.replace(path, contract.encode(asdict(note), indent=1))
            kept.write("noted", {"id": halt.id, "file": path.name})
        self._halts.setdefault((folder, halt.sweep), []).append(halt)
        for run in list(self._runs()):
            if run.folder.parent == folder:
                self._ask(run)

    def _ask(self, run: Run) -> None:
        """Asks a run that is left of a sweep that is to stop."""
        record = run.experiment
        if record is None:
            return
        for halt in self._halts.get((run.folder.parent, record.sweep), ()):
            concerned = all(setting.met(record.config) for setting in halt.only)
            anew = concerned and _failing(run) is None and not self._taken_back(run, halt)
            kill = contract.Kill(
                id=f"{SWEEP}-{_short(f'{halt.id} {run.folder.name}')}",
                reason=halt.reason,
                rule=SWEEP,
                requested_by="checker",
                requested_at=contract.now(),
                grace_seconds=enforce.GRACE,
            )
            self._stop(run, kill, anew)

    def _taken_back(self, run: Run, halt: Halt) -> bool:
        path = contract.sweep_stop_file(run.folder.parent, halt.sweep)
        return self._mode is Mode.ACT and not (path and os.path.lexists(path))

    def _name(self, folder: Path, sweep: str) -> str:
        return sweep or (folder.name if folder == self._root else str(folder.relative_to(self._root)))


class _Journal:
    """The journal of a folder of runs."""

    def __init__(self, folder: Path, hear: Callable[[journal.Entry], None]) -> None:
        self.entries = [entry for entry in journal.entries(folder) if entry is not None]
        self._journal = journal.Journal(folder, hear)

    def write(self, kind: str, content: journal.Entry, *, sync: bool = False) -> journal.Entry:
        """Appends an entry.

        Raises:
            OSError: it cannot be written, so it is neither said nor acted upon.
        """
        entry = self._journal.write(kind, content, sync=sync)
        self.entries.append(entry)
        return entry

    def said(self, sweep: str, failure: str) -> bool:
        """Whether it was said that runs of a sweep fail this way; of runs without one, whether it was lately."""
        since = time.time() - LOOSE_SECONDS if not sweep else 0.0
        return any((seconds(entry.get("at")) or 0.0) >= since for entry in self._about(lines.ALIKE, sweep, failure))

    def ordered(self, sweep: str, failure: str, mode: Mode) -> bool:
        """Whether what is left of a sweep was ordered to stop; what was only observed may be ordered now."""
        acts = {entry.get("act") for entry in self._about(lines.HALT, sweep, failure)}
        return REQUESTED in acts or (mode is Mode.OBSERVE and OBSERVED in acts)

    def noted(self, halt: str) -> bool:
        return any(entry["kind"] == "noted" and entry.get("id") == halt for entry in self.entries)

    def _about(self, kind: str, sweep: str, failure: str) -> Iterator[journal.Entry]:
        for entry in self.entries:
            if entry["kind"] == kind and (entry.get("sweep"), entry.get("failure")) == (sweep, failure):
                yield entry


def _failing(run: Run) -> object:
    """How a run has failed, None while it has not: another answer whenever there is another failure."""
    critical = [found.rule for found in run.case.open_findings() if found.severity is Severity.CRITICAL]
    if run.state is contract.State.FAILED or critical:
        return run.status.run_id, run.state, *critical
    return None


def _sibling(entry: Entry) -> alike.Sibling:
    return alike.Sibling(entry.name, entry.status, entry.failure, entry.rule, entry.step)


def _touched(folder: Path) -> bool:
    """Whether something has happened to a run lately."""
    for name in (contract.STATUS, contract.METRICS, contract.FINDINGS):
        with suppress(OSError):
            if os.stat(folder / name).st_mtime >= time.time() - LOOSE_SECONDS:
                return True
    return False


def _about(sweep: str, group: alike.Alike) -> journal.Entry:
    """What an entry says of a group."""
    return {
        "sweep": sweep,
        "failure": group.failure,
        "runs": list(group.failed),
        "sound": list(group.sound),
        "begun": group.begun,
        "shared": [
            {**asdict(part.setting), "others": part.others, "chance": round(part.chance, 4)} for part in group.shared
        ],
        "told": [alike.told(part.setting) for part in group.shared],
    }


def _halt(entry: journal.Entry) -> Halt:
    only: Sequence[Any] = entry["only"] if isinstance(entry.get("only"), list) else [None]  # what nobody has
    settings = tuple(map(contract.Setting.parse, only))
    return Halt(str(entry.get("id")), str(entry.get("sweep")), str(entry.get("summary")), settings)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
