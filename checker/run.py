"""One run folder under watch: read, judged, journaled, and stopped if it must be.

A turn never waits: it takes what is there now and returns. What it concludes is journaled before anything is touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import contract
from checker import journal, judge, plan, process
from checker.chase import Chase
from checker.enforce import Did
from checker.events import Event, Life, Plan, Tick, Unreadable
from checker.finding import Action, Severity
from checker.judge import Effect, Found
from checker.status import Status, tick
from checker.tail import Tail, fingerprint
from checker.terms import Mode, Moment, Notice

BATCH = 20_000
"""Events per turn (about half a second), so that a long log read for the first time does not hold other runs up."""

GONE_SECONDS = 120.0
"""How long a run whose process vanished is still looked at: the rules have said all they can long before."""

SETTLE_SECONDS = 2.0
"""After a process vanished, before it counts as the end: two heartbeats, in which a last status may still appear."""

SHOWN = 10
"""Unreadable lines that a report can show."""

BUSY_SECONDS = 1.0
"""Processor time over a shorter interval says nothing."""


class Run:
    """One folder. `turn` does all the work; the rest is there to be read."""

    def __init__(self, folder: Path, name: str, mode: Mode = Mode.ACT) -> None:
        self.folder, self.name, self.mode = folder, name, mode
        self.status = Status(folder)
        self.journal = journal.Journal(folder)
        self.tail = Tail(folder / contract.METRICS)
        self.plan = Plan()
        self.case = judge.Case.open()
        self.chase = Chase(self.status, mode, self._journal, self._say)
        self.acts: list[journal.Entry] = []
        self.unreadable: list[Unreadable] = []
        """The first few lines that could not be read; `case.history.unreadable` counts all."""
        self.life = Life.UNKNOWN
        self.gone_since: float | None = None
        self.behind = False
        """There is more to read; another turn is due at once."""
        self.urgent = False
        """Something happened that a report should show now."""
        self.progressed = False
        self._past = journal.Past()
        self._endings: set[tuple[int, str | None, str | None]] = set()
        self._stream: Iterator[Event] | None = None
        self._plan_stamp: object = None
        self._notices: list[Notice] = []
        self._effort: tuple[object, float, float | None] = (None, 0.0, None)
        self._read_before = False
        self._grew = False
        self._open("")

    @property
    def document(self) -> dict[str, Any]:
        """The status file as last read."""
        return self.status.document

    @property
    def experiment(self) -> contract.Experiment | None:
        """What `experiment.json` declares; None when there is none."""
        return self.plan.experiment if self._plan_stamp is not None else None

    @property
    def state(self) -> contract.State | None:
        return self.status.state

    @property
    def over(self) -> bool:
        """Nothing will come from this run any more, as far as can be told."""
        return (self.state is not None and self.state.final) or self.life is Life.GONE

    @property
    def settling(self) -> bool:
        """The process has just vanished and the end has not been judged yet."""
        return self.life is Life.GONE and not any(index == self.case.history.index for index, *_ in self._endings)

    @property
    def chasing(self) -> bool:
        """A stop has been asked for and is not yet settled."""
        return self.chase.active

    @property
    def observed(self) -> int:
        """Stops that would have been asked for, had the checker been allowed to."""
        return sum(Did.OBSERVED in pursuit.done for pursuit in self.chase.pursuits)

    def turn(self, moment: Moment, *, beat: bool = True) -> list[Notice]:
        """One look at everything; `beat` also tells the judge the time."""
        self.chase.moment = moment
        # Status and process first: rows written before a run said that it is over are then sure to be read before that.
        self._look_around(moment, process_too=beat or self.chasing)
        self._read()
        if not self.behind:
            if beat or self.over:  # an ending is judged at once
                self._tell_time(moment)
            if self.mode is not Mode.JUDGE:
                self.chase.adopt(self._past)
                self.chase.drive(self.case)
        notices, self._notices = self._notices, []
        return notices

    def close(self) -> None:
        self.journal.close()
        self.status.file.close()

    # ----------------------------------------------------------------------------------------------------- looking

    def _open(self, why: str) -> None:
        """Starts the case anew, from byte 0, with what the journal knows about this file."""
        self.plan, problem = plan.load(self.folder)
        self._plan_stamp = _stamp(self.folder / contract.EXPERIMENT)
        self.case = judge.Case.open(self.plan)
        self.chase.pursuits.clear()
        self.unreadable = []
        self._stream = None
        self._past = journal.recall(self.folder, fingerprint(self.tail.path))
        self._endings = {(after, look.run_id, look.state) for after, look in self._past.ticks if look.final}
        self.acts = list(self._past.acts)
        for text in (why, problem):
            if text:
                self._say(text)

    def _look_around(self, moment: Moment, *, process_too: bool) -> None:
        before = self.state
        if self.status.refresh():
            self.progressed = True
            self.urgent |= before is not self.state
        if process_too:
            self._look_at_process(moment)
        if self._plan_stamp != _stamp(self.folder / contract.EXPERIMENT):
            self.tail = Tail(self.tail.path)
            self._open(f"{contract.EXPERIMENT} changed; judging again from the first row")

    def _look_at_process(self, moment: Moment) -> None:
        life = process.look(process.parse(self.document)) if self.document else Life.UNKNOWN
        if life is not self.life:
            self.urgent |= Life.GONE in (life, self.life)
            self.life = life
        self.gone_since = (self.gone_since or moment.wall) if life is Life.GONE else None

    def _read(self) -> None:
        if self._stream is None:
            if self.tail.rewritten():
                self._rewritten()
            self._stream = journal.merge(self.tail.events(), self._past.ticks)
        count = 0
        for event in islice(self._stream, BATCH):
            count += 1
            if isinstance(event, Unreadable):
                self._note(event)
            self._take(judge.step(self.case, event), event if isinstance(event, Tick) else None)
        self.behind = count == BATCH
        self.progressed |= count > 0
        if not self.behind:
            self._grew |= count > 0 and self._read_before
            self._stream, self._read_before = None, True

    def _note(self, bad: Unreadable) -> None:
        """Keeps the first few unreadable lines for the report, and says so at the first."""
        if not self.unreadable:
            self._say(f"{contract.METRICS} line {bad.line}: {bad.reason}", Severity.WARNING)
        if len(self.unreadable) < SHOWN:
            self.unreadable.append(bad)

    def _rewritten(self) -> None:
        """The file tells another story now. Old findings stay in the journal, under the old file's name."""
        self._open(f"{contract.METRICS} was cut or replaced; judging again from the first row")
        self._past = journal.Past()
        self._endings, self.acts = set(), []
        if self.journal.path.exists():
            self._name_file()

    def _name_file(self) -> None:
        self._past.file = fingerprint(self.tail.path)
        self.journal.write("file", {"fingerprint": self._past.file})

    # ----------------------------------------------------------------------------------------------------- judging

    def _tell_time(self, moment: Moment) -> None:
        """Feeds one look at the clock, if it can mean anything."""
        state, gone = self.state, self.life is Life.GONE
        if state is None and not self._grew:
            return
        final = self._gone_for(moment) >= SETTLE_SECONDS or (state is not None and state.final)
        told = contract.State.KILLED if gone and self.chase.forced else state  # our own kill is not a crash
        ending = (self.case.history.index, self.status.run_id, str(told) if told is not None else None)
        first = final and ending not in self._endings
        if final and not gone and not first:
            return  # told already, and the clock does not matter any more
        if self._gone_for(moment) > GONE_SECONDS:
            return
        look = tick(self.document, moment.wall)
        look = replace(
            look,
            state=ending[2],
            life=self.life,
            gone_since=self.gone_since,
            final=final,
            busy=self._busy(look, moment),
        )
        effects = judge.step(self.case, look)
        if first:
            # An ending is journaled even when nothing followed from it. A replay then knows the moment at which it was
            # judged, and a person that the run was watched to its end.
            self._endings.add(ending)
            self.urgent = True
        if first or self._new(effects):
            self._journal("tick", journal.tick_out(look, self.case.history.index))
        self._take(effects, look)

    def _gone_for(self, moment: Moment) -> float:
        return moment.wall - self.gone_since if self.gone_since is not None else 0.0

    def _busy(self, look: Tick, moment: Moment) -> float | None:
        """How much processor time the process has used since anything moved, as a share of one core."""
        key = (look.run_id, look.progress_at, look.step, self.case.history.index)
        used = process.cpu_seconds(process.parse(self.document)) if self.document else None
        last, since, before = self._effort
        if key != last or used is None or before is None:
            self._effort = (key, moment.mono, used)
            return None
        lasted = moment.mono - since
        return (used - before) / lasted if lasted >= BUSY_SECONDS else None

    def _new(self, effects: list[Effect]) -> list[Effect]:
        """Those of `effects` that are not in the journal."""
        return [effect for effect in effects if journal.key(effect) not in self._past.told]

    def _take(self, effects: list[Effect], look: Tick | None) -> None:
        """Journals what is new, then opens the pursuit of what asks for a stop."""
        for effect in self._new(effects):
            self._journal(
                "finding" if isinstance(effect, Found) else "recovered", journal.content(effect), sync=_kills(effect)
            )
            self._past.told.add(journal.key(effect))
            self._announce(effect)
        for effect in effects:
            if isinstance(effect, Found) and _kills(effect) and self.mode is not Mode.JUDGE:
                self.chase.open(effect.finding, self._past, self.case.history.at, look)

    def _journal(self, kind: str, content: journal.Entry, sync: bool = False) -> None:
        if self._past.file is None:
            self._name_file()
        self.urgent = True
        entry = self.journal.write(kind, content, sync=sync)
        if kind == "act":
            self.acts.append(entry)

    def _announce(self, effect: Effect) -> None:
        if isinstance(effect, Found):
            finding = effect.finding
            at = f" at step {finding.step}" if finding.step is not None else f" at row {finding.row}"
            self._say(f"{finding.summary}{at}", finding.severity, finding.rule)
        else:
            self._say("over", rule=effect.rule)

    def _say(self, text: str, severity: Severity = Severity.INFO, rule: str = "") -> None:
        self._notices.append(Notice(self.name, text, severity, rule))


def _kills(effect: Effect) -> bool:
    return isinstance(effect, Found) and effect.finding.action is Action.KILL


def _stamp(path: Path) -> object:
    try:
        return contract.stamp(os.stat(path))
    except OSError:
        return None
