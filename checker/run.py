"""One run folder under watch: read, judged, journaled, and stopped if it must be.

A turn never waits: it takes what is there now and returns. What it concludes is journaled before anything is touched.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import contract
from checker import journal, judge, plan, process, ranks, source
from checker.chase import Chase
from checker.enforce import Did, Later
from checker.events import Event, Life, Plan, Tick, Unreadable
from checker.finding import Action, Severity
from checker.formats.format import PLAIN, Reading
from checker.judge import Effect, Found
from checker.naps import Excuse
from checker.rankfiles import RankFiles
from checker.retold import Retold
from checker.sleep import Sleep
from checker.status import Status, asked, tick, whole
from checker.tail import CHUNK, Tail
from checker.terms import Mode, Moment, Notice

SETTLE_SECONDS = 2.0
"""After a process vanished, before it counts as the end: two heartbeats, in which a last status may still appear.

A run that says it is over has as long to write the rest of a last line.
"""

TROUBLE_SECONDS = 2.0
"""An unreadable status file older than this is no save in progress."""

SHOWN = 10
"""Unreadable lines that a report can show."""

BEAT = 1.0
"""Seconds between two looks at the clock for a run about which the time alone may say something new."""

CHASE = 0.1
"""As above while a stop has been asked for: whether it has happened should be known soon."""

RESTS = (60.0, 30.0, 15.0, 8.0, 4.0, 2.0)
"""Seconds for which a run may be left alone otherwise, the longest that is safe. Rows, a changed file and a process
that ends wake it at once."""

BEATING = 60.0
"""A heartbeat that is younger is expected to go on."""

BUSY_SECONDS = 1.0
"""Processor time over a shorter interval says nothing."""


class Run:
    """One folder. `turn` does all the work; the rest is there to be read."""

    __slots__ = (
        "_announced",
        "_effort",
        "_endings",
        "_excuse",
        "_final_since",
        "_gone_at",
        "_grew",
        "_life_of",
        "_named",
        "_notices",
        "_outdated",
        "_owed",
        "_owed_sync",
        "_owed_told",
        "_past",
        "_plan_file",
        "_plan_stamp",
        "_read_before",
        "_read_named",
        "_sleep",
        "_trouble",
        "_trouble_told",
        "_unfinished_told",
        "acts",
        "behind",
        "case",
        "chase",
        "folder",
        "gone_since",
        "journal",
        "life",
        "limits",
        "mode",
        "name",
        "plan",
        "progressed",
        "rank_files",
        "reading",
        "status",
        "tail",
        "unreadable",
        "urgent",
    )  # fmt: skip

    def __init__(
        self,
        folder: Path,
        name: str,
        mode: Mode = Mode.ACT,
        limits: Mapping[str, Any] | None = None,
        *,
        reading: Reading = PLAIN,
        hear: Callable[[journal.Entry], None] = lambda _: None,
        life_of: Callable[[contract.Process | None], Life] = process.look,
    ) -> None:
        self.folder, self.name, self.mode, self.limits = folder, name, mode, limits
        self.status = Status(folder)
        self.journal = journal.Journal(folder, hear)
        self.reading, self.tail = reading, source.log_of(folder, reading)
        self.plan = Plan()
        self.case = judge.Case.open(limits=limits)
        self.rank_files = RankFiles(folder)
        self.chase = Chase(self.status, self.rank_files, mode, self._journal, self._say)
        self.acts: list[journal.Entry] = []
        self.unreadable: list[Unreadable] = []
        """The first few lines that could not be read; `case.history.unreadable` counts all."""
        self.life = Life.UNKNOWN
        self._life_of = life_of
        self.gone_since: float | None = None
        self.behind = False
        """There is more to read; another turn is due at once."""
        self.urgent = False
        """Something happened that a report should show now."""
        self.progressed = False
        self._past = journal.Past()
        self._endings: set[tuple[int, str | None, str | None]] = set()
        self._plan_file = f"{folder}{os.sep}{contract.EXPERIMENT}"
        self._plan_stamp: object = None
        self._notices: list[Notice] = []
        self._effort: tuple[object, float, dict[contract.Process, float]] = (None, 0.0, {})
        self._excuse = Excuse()
        self._sleep = Sleep()
        self._named: object = None
        """The run and the process that `life` and `gone_since` are about."""
        self._final_since: float | None = None
        self._announced: tuple[str | None, contract.State | None] | None = None
        """The run and the state that were last told; None before the first look."""
        self._trouble: tuple[str | None, float] = (None, 0.0)
        """What has been wrong with the status file, and since when."""
        self._trouble_told: str | None = None
        self._unfinished_told = False
        self._read_before = False
        self._grew = False
        self._outdated = False
        """Judged so far by limits that are not in force any more."""
        self._read_named: object = None
        """Whose run it was when the log had last been read to its end."""
        self._gone_at: float | None = None
        """As `gone_since`, by the clock for intervals."""
        self._owed: list[journal.Entry] = []
        """What has not been journaled yet, in order; until it is, nothing is done to the run."""
        self._owed_sync = False
        """Something among it must survive a power cut."""
        self._owed_told: str | None = None
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
        """The run has just ended and its end has not been judged yet."""
        if self.tail.unfinished and self.over:
            return True
        return self.life is Life.GONE and not any(index == self.case.history.index for index, *_ in self._endings)

    @property
    def forced(self) -> bool:
        """The process is gone because we ended it, and could not say so itself."""
        return self.life is Life.GONE and self.chase.forced(self.status.process)

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
        try:
            self._turn(moment, beat=beat)
        finally:
            self._pay()
        notices, self._notices = self._notices, []
        return notices

    def _turn(self, moment: Moment, *, beat: bool) -> None:
        # Status and process first: rows written before a run said that it is over are then sure to be read before that.
        self._look_around(moment, process_too=beat or self.chasing)
        if self.mode is Mode.JUDGE and self.life is Life.GONE:  # there is no later look: was this its last status?
            self._look_around(moment, process_too=True)
        self._read()
        if not self.behind:
            self._read_unfinished(moment)
            if beat or self.over:  # an ending is judged at once
                self._tell_time(moment)
            if self.mode is not Mode.JUDGE and (self.document or not self._being_saved(moment)):
                self.chase.adopt(self._past)
                if self._pay():
                    self.chase.drive(self.case)
        if not self.chasing:
            self.status.file.close()  # it keeps a file open to notice late edits of what it is about to edit again

    def glance(self, moment: Moment) -> list[Notice]:
        """Reads and judges new rows, and looks at nothing else unless these ask for a stop."""
        self.chase.moment = moment
        self._read()
        if self.chase.unsettled:
            return self.turn(moment, beat=False)
        self._pay()
        notices, self._notices = self._notices, []
        return notices

    @property
    def restless(self) -> bool:
        """Something is under way that only looking again can settle."""
        ranks_too = (whole(self.document, "world_size") or 1) > 1
        under_way = self.chasing or self.over or self.tail.unfinished or self.status.problem or self._owed
        return bool(under_way or ranks_too or self.chase.unsettled)

    def rest(self, moment: Moment) -> float:
        """Seconds for which nothing can follow from the clock alone, if no file and no process changes meanwhile."""
        if self.chasing:
            return CHASE
        if self.over and not self.settling and not self._owed:
            return math.inf
        if self.restless:
            return BEAT
        look = self.case.history.tick
        if look is None:  # a row came after the last look
            look = self._look(moment)
        return next((seconds for seconds in RESTS if not judge.foresees(self.case, ahead(look, seconds))), BEAT)

    def judge_by(self, limits: Mapping[str, Any], reading: Reading = PLAIN) -> None:
        """Judges by other limits: from the first row on while it goes on. What is over has been judged already."""
        if reading != self.reading and not self.over:
            self.reading, self.tail = reading, source.log_of(self.folder, reading)
        self.limits, self._outdated = limits, True

    def give_up(self, kill: contract.Kill, *, anew: bool) -> bool:
        """Wishes to stop the run for what happened to its siblings; it is asked in its next turn, as any doomed run.

        Args:
            kill: the request.
            anew: whether it may be asked, if it never was: it must run then. What an earlier checker has begun is
                brought to its end.

        Returns:
            Whether there is something to be done.
        """
        if self.behind:
            return False
        begun = any(act.get("act") == Did.REQUESTED for act in self._past.acts_on(kill.id))
        running = self.state is contract.State.RUNNING and self.life is not Life.GONE
        if begun or (anew and running):
            return self.chase.give_up(kill, self._past)
        return False

    def close(self) -> None:
        self.status.file.close()

    # ----------------------------------------------------------------------------------------------------- looking

    def _open(self, why: str) -> None:
        """Starts the case anew, from byte 0, with what the journal knows about this file."""
        self._outdated = False
        self.plan, problem = plan.load(self.folder)
        self._plan_stamp = _stamp(self._plan_file)
        self.case = judge.Case.open(self.plan, self.limits)
        self.chase.pursuits.clear()
        self.unreadable = []
        self._read_named = None
        self._past = journal.recall(self.folder, self._log_fingerprint(), self._owed)
        self._endings = {(after, look.run_id, look.state) for after, look in self._past.ticks if look.final}
        self.acts = list(self._past.acts)
        for text in (why, problem):
            if text:
                self._say(text)
        if self._past.unreadable:
            self._say(f"{self._past.unreadable} lines of {contract.FINDINGS} cannot be read and are ignored")

    def _log_fingerprint(self) -> str:
        """Which run the log tells of; nothing where it cannot be read now and no journal asks for it."""
        try:
            return self.tail.fingerprint()
        except OSError:
            if os.path.lexists(self.journal.path):
                raise
            return ""

    def _look_around(self, moment: Moment, *, process_too: bool) -> None:
        before = self.state
        if self.status.refresh():
            self.progressed = True
            self.urgent |= before is not self.state
        named = (self.status.run_id, self.status.process)
        if named != self._named:  # what was known about the last process says nothing about this one
            self.urgent |= self.life is Life.GONE
            self._named, self.life, self.gone_since, self._final_since = named, Life.UNKNOWN, None, None
            self._gone_at = None
            process_too = True
        if process_too:
            self._look_at_process(moment)
        final = self.state is not None and self.state.final
        self._final_since = (self._final_since or moment.mono) if final else None
        self._look_for_trouble(moment)
        self._announce_state()
        if process_too:
            self._look_for_log()
        if self._plan_stamp != _stamp(self._plan_file):
            self.tail = self.tail.again()
            self._open(f"{contract.EXPERIMENT} changed; judging again from the first row")
        elif self._outdated and not self.over:
            self.tail = self.tail.again()
            self._open("")

    def _look_for_log(self) -> None:
        """Another program's log may come later than the folder, and our own later than that."""
        if isinstance(self.tail, Tail):  # ours, once it was read, comes back; nothing else takes its place meanwhile
            another = self.tail.missing and not self.tail.offset
        else:
            another = not self.reading.columns and self._has_own()
        found = source.log_of(self.folder, self.reading) if another else self.tail
        if type(found) is not type(self.tail):
            self.tail = found
            self._open(f"read from {found.format.title}" if isinstance(found, Retold) else "")

    def _has_own(self) -> bool:
        return os.path.lexists(self.folder / contract.METRICS)

    @property
    def _log(self) -> str:
        """What its log is called."""
        return self.tail.path.name or contract.METRICS

    @property
    def foreign(self) -> bool:
        """Its log is that of another program."""
        return isinstance(self.tail, Retold)

    def _look_at_process(self, moment: Moment) -> None:
        life = self._life_of(self.status.process)
        if life is not self.life:
            self.urgent |= Life.GONE in (life, self.life)
            self.life = life
        if life is not Life.GONE:
            self.gone_since = self._gone_at = None
        elif self.gone_since is None or self._gone_at is None:
            self.gone_since, self._gone_at = moment.wall, moment.mono

    def _look_for_trouble(self, moment: Moment) -> None:
        """Says once that the status file cannot be read, unless it is only being saved."""
        problem = self.status.problem
        if problem != self._trouble[0]:
            self._trouble = (problem, moment.mono)
        if problem is None:
            if self._trouble_told is not None:
                self._say(f"{contract.STATUS} can be read again")
            self._trouble_told = None
        elif problem != self._trouble_told and not self._being_saved(moment):
            self._trouble_told = problem
            self._say(problem, Severity.WARNING)

    def _being_saved(self, moment: Moment) -> bool:
        """There is a status file that cannot be read, but perhaps only at this moment."""
        problem, since = self._trouble
        return problem is not None and self.mode is not Mode.JUDGE and moment.mono - since < TROUBLE_SECONDS

    def _announce_state(self) -> None:
        """Says that a run has started or ended; not of one that was over before anybody looked."""
        state, before = self.state, self._announced
        now = (self.status.run_id, state)
        if self.mode is Mode.JUDGE or now == before or (state is None and before is not None):
            return
        self._announced = now
        if state is None or (before is None and (state.final or self.life is Life.GONE)):
            return
        step = whole(self.document, "step")
        at = f" at step {step}" if step is not None else ""
        if state is contract.State.RUNNING:
            again = before is not None and before[1] not in (None, contract.State.PENDING)
            text = f"{'started again' if again else 'running' if step else 'started'}{at if step else ''}"
            self._say(text, event=str(state))
        elif state.final:
            why = asked(self.document) if state is contract.State.KILLED else self.document.get("error")
            self._say(f"{state}{at}{f': {why}' if isinstance(why, str) else ''}", event=str(state))

    def _read(self) -> None:
        count = 0
        for event in self._fresh():
            count += 1
            if isinstance(event, Unreadable):
                self._note(event)
            effects = judge.step(self.case, event)
            if effects:
                self._take(effects, event if isinstance(event, Tick) else None)
        self.behind = self.tail.more
        self.progressed |= count > 0
        if not self.behind:
            self._grew |= count > 0 and self._read_before
            self._read_before, self._read_named = True, self._named

    def _fresh(self) -> Iterator[Event]:
        """What has been added to the log since the last look, as much of it as one turn takes."""
        found = None if self._past.ticks else self.tail.fresh()
        if found is not None:
            return iter(found)
        if self.tail.rewritten():
            self._rewritten()
        return journal.merge(self.tail.events(CHUNK), self._past.ticks)

    def _read_unfinished(self, moment: Moment) -> None:
        """Takes a last line without newline for what it is, once nobody writes it any more."""
        size = self.tail.unfinished
        if not size:
            self._unfinished_told = False
            return
        if not self._nobody_writes(moment):
            if self.mode is Mode.JUDGE and not self._unfinished_told:
                self._unfinished_told = True
                line = Unreadable(self.tail.lines + 1, f"the file ends in an unfinished line ({size:,} bytes), so far")
                self._say_unreadable(line)
                self.unreadable.append(line)
            return
        for event in journal.merge(self.tail.rest(), self._past.ticks):
            if isinstance(event, Unreadable):
                self._note(event)
            self._take(judge.step(self.case, event), event if isinstance(event, Tick) else None)
        self.progressed = True

    def _nobody_writes(self, moment: Moment) -> bool:
        """No more of a last line can be expected."""
        final = self._final_since is not None and moment.mono - self._final_since >= SETTLE_SECONDS
        if self.mode is Mode.JUDGE:
            return self.over or (self.state is None and self.status.problem is None)
        return final or self._gone(moment)

    def _note(self, bad: Unreadable) -> None:
        """Keeps the first few unreadable lines for the report, and says so at the first, the 10th, the 100th…."""
        count = self.case.history.unreadable + 1
        if count == 1:
            self._say_unreadable(bad)
        elif str(count).strip("0") == "1":
            self._say(f"{self._log}: {count:,} unreadable lines so far", Severity.WARNING)
        if len(self.unreadable) < SHOWN:
            self.unreadable.append(bad)

    def _say_unreadable(self, bad: Unreadable) -> None:
        where = f"{self._log} line {bad.line}: " if bad.line else ""  # line 0 is the whole file
        self._say(f"{where}{bad.reason}", Severity.WARNING)

    def _rewritten(self) -> None:
        """The file tells another story now. Old findings stay in the journal, under the old file's name."""
        self._open(f"{self._log} was cut or replaced; judging again from the first row")
        self._past = journal.Past()
        self._endings, self.acts = set(), []
        if self.journal.path.exists():
            self._name_file()

    def _name_file(self) -> None:
        self._past.file = self.tail.fingerprint()
        self._owed.append(journal.made("file", {"fingerprint": self._past.file}))

    # ----------------------------------------------------------------------------------------------------- judging

    def _tell_time(self, moment: Moment) -> None:
        """Feeds one look at the clock, if it can mean anything."""
        state, gone = self.state, self.life is Life.GONE
        if state is None and not self._grew:
            return
        final = self._gone(moment) or (state is not None and state.final)
        if final and self.tail.unfinished:
            return  # its last line decides
        told = contract.State.KILLED if self.forced else state  # our own kill is not a crash
        ending = (self.case.history.index, self.status.run_id, str(told) if told is not None else None)
        first = final and ending not in self._endings
        if self.status.blind and not final:
            return  # who cannot look does not know that nothing moves
        if (final or gone) and not first:
            return  # told already, or too early to tell: nothing that happens by the clock happens to a dead process
        look = replace(self._look(moment), state=ending[2], final=final)
        effects = judge.step(self.case, look)
        if first:
            # An ending is journaled even when nothing followed from it. A replay then knows the moment at which it was
            # judged, and a person that the run was watched to its end.
            self._endings.add(ending)
            self.urgent = True
        if first or self._new(effects):
            self._journal("tick", journal.tick_out(look, self.case.history.index))
        self._take(effects, look)

    def _look(self, moment: Moment) -> Tick:
        """What the judge is told of this moment."""
        look = tick(self.document, moment.wall)
        told = self.rank_files.look(self.document, moment.wall, once=self.mode is Mode.JUDGE)
        seen = self._sleep.look(self.status.process, moment.mono)
        look = replace(
            look,
            ranks=told,
            life=self.life,
            gone_since=self.gone_since,
            age=process.age(self.status.process),
            **seen._asdict(),
        )
        # A run stands still as well while one of its ranks is suspended, and has to catch up afterwards.
        life = Life.STOPPED if ranks.suspended(look) else self.life
        return replace(look, busy=self._busy(look, moment), excused=self._excuse.look(self._moved(look), moment, life))

    def _gone(self, moment: Moment) -> bool:
        """The process has vanished, and a last status of it would have been seen."""
        if self._gone_at is None:
            return False
        return self.mode is Mode.JUDGE or moment.mono - self._gone_at >= SETTLE_SECONDS

    def _busy(self, look: Tick, moment: Moment) -> float | None:
        """How much processor time the process has used since anything moved, as a share of one core.

        Of a distributed run the busiest process on this machine counts: it may be the one that all others wait for.
        """
        key = self._moved(look)
        named = self.status.process
        asked = (named, *(member.process for member in self.rank_files.living))
        used = {one: spent for one in asked if one is not None and (spent := process.cpu_seconds(one)) is not None}
        last, since, before = self._effort
        if key != last or named not in used or named not in before:
            self._effort = (key, moment.mono, used)
            return None
        lasted = moment.mono - since
        if lasted < BUSY_SECONDS:
            return None
        return max((spent - before[one]) / lasted for one, spent in used.items() if one in before)

    def _moved(self, look: Tick) -> object:
        """It changes whenever anything moves."""
        return (self._named, look.progress_at, look.step, self.case.history.index)

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
            if isinstance(effect, Found) and _kills(
                effect
            ):  # judging only, it is never driven: but what was done counts
                # A row that came while we looked on is of the process that we see, whatever the clocks say.
                seen = self.status.process if self._read_named == self._named else None
                self.chase.open(effect.finding, self._past, self.case.history.at, look, seen)

    def _journal(self, kind: str, content: journal.Entry, sync: bool = False, must: bool = False) -> None:
        """Journals an entry: an act that matters now, anything else together at the end of the turn at the latest.

        Raises:
            Later: it is one that `must` be there now, and it cannot be.
        """
        if self._past.file is None:
            self._name_file()
        self.urgent = True
        self._owed.append(journal.made(kind, content))
        self._owed_sync |= sync
        if (must or (sync and kind == "act")) and not self._pay() and must:
            self._owed.pop()
            raise Later("the journal cannot be written")

    def _pay(self) -> bool:
        """Writes what the journal lacks; False when it cannot be written now, which is told once."""
        if not self._owed:
            return True
        try:
            self.journal.append(self._owed, sync=self._owed_sync)
        except OSError as error:
            trouble = error.strerror or str(error)
            if trouble != self._owed_told:
                self._owed_told = trouble
                told = f"{contract.FINDINGS} cannot be written ({trouble}); the run is not touched before it can"
                self._say(told, Severity.CRITICAL)
            return False
        self.acts += (entry for entry in self._owed if entry["kind"] == "act")
        self._owed, self._owed_sync = [], False
        if self._owed_told is not None:
            self._owed_told = None
            self._say(f"{contract.FINDINGS} can be written again")
        return True

    def _announce(self, effect: Effect) -> None:
        if isinstance(effect, Found):
            finding = effect.finding
            row = f" at row {finding.row}" if finding.row >= 0 else ""
            at = f" at step {finding.step}" if finding.step is not None else row
            self._say(f"{finding.summary}{at}", finding.severity, finding.rule, "finding")
        else:
            self._say("over", rule=effect.rule, event="recovered")

    def _say(self, text: str, severity: Severity = Severity.INFO, rule: str = "", event: str = "note") -> None:
        self._notices.append(Notice(self.name, text, severity, rule, event))


def ahead(look: Tick, seconds: float) -> Tick:
    """The look at a later moment at which nothing has moved but the heartbeat, the worst that can come by waiting."""
    beats = look.heartbeat_at is not None and look.now - look.heartbeat_at < BEATING
    beat = look.now + seconds if beats else look.heartbeat_at
    idle = 0.0 if look.life is Life.ALIVE else look.busy
    age, blocked = (None if known is None else known + seconds for known in (look.age, look.blocked))
    return replace(look, now=look.now + seconds, heartbeat_at=beat, busy=idle, age=age, blocked=blocked)


def _kills(effect: Effect) -> bool:
    return isinstance(effect, Found) and effect.finding.action is Action.KILL


def _stamp(path: str) -> object:
    try:
        return contract.stamp(os.stat(path))
    except OSError:
        return None
