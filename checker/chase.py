"""The hands of `enforce`: sees how a run stands, takes the step that is due, and journals it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import asdict, replace

import contract
from checker import enforce, journal, kin, process
from checker.enforce import Did, Pursuit
from checker.events import Life, Tick
from checker.finding import Finding, Severity
from checker.judge import Case
from checker.rankfiles import RankFiles
from checker.rows import seconds
from checker.status import Status, ack
from checker.terms import Mode, Moment

_PHRASE = {Did.REQUESTED: "kill requested", Did.RECOVERED: "recovered before the kill", Did.STACK_DUMP: "stack dump"}

_SYNCED = (Did.REQUESTED, *enforce.FORCE, *enforce.WORKERS)

_LISTED_SECONDS = 1.0
"""Between two looks at what a process that is being ended has started: each reads the whole process table."""

_LIVES_ON = "; its process lives on with other work"

_SIGNALS = (Did.STACK_DUMP, *enforce.FORCE, *enforce.WORKERS)

_EVIDENCE = (Did.LOOKED_AGAIN, *_SIGNALS)
"""What is in the journal before the run is touched; of the others the journal may hear a little later."""

Write = Callable[[str, journal.Entry, bool, bool], None]
"""Journals an entry: its kind, its content, whether to wait until it would survive a power cut, and whether it must be
there now. One that must and cannot raises `Later`; another is written as soon as it can be."""

Say = Callable[[str, Severity, str, str], None]
"""Tells people: the text, how grave it is, the rule, and what was done."""


class Chase:
    """All wishes to stop one run."""

    def __init__(self, status: Status, rank_files: RankFiles, mode: Mode, write: Write, say: Say) -> None:
        self.status, self.rank_files, self.mode = status, rank_files, mode
        self.pursuits: list[Pursuit] = []
        self.moment = Moment(0.0, 0.0)
        """Of the present turn."""
        self._write, self._say = write, say
        self._heartbeat: tuple[object, float] = (None, 0.0)
        self._final_since: float | None = None
        self._listed = 0.0

    @property
    def now(self) -> float:
        """The time by which a run's patience is counted: what stops for the checker, stops for the run."""
        return self.moment.mono - self.moment.stood

    @property
    def active(self) -> bool:
        """A stop has been asked for and is not yet settled."""
        return any(Did.REQUESTED in pursuit.done and not pursuit.ended for pursuit in self.pursuits)

    @property
    def unsettled(self) -> bool:
        """There is a wish to stop the run that is not settled, whether it has been asked or not."""
        return any(not pursuit.ended for pursuit in self.pursuits)

    def forced(self, named: contract.Process | None) -> bool:
        """Whether process `named` was sent our signal, and so perhaps could not write that it was killed."""
        return any(pursuit.process == named and pursuit.forced for pursuit in self.pursuits if named is not None)

    def open(
        self,
        finding: Finding,
        past: journal.Past,
        row_at: float | None,
        look: Tick | None,
        named: contract.Process | None = None,
    ) -> None:
        """Opens the pursuit of a finding, or takes up the one that an earlier checker began.

        Args:
            finding: what asks for a stop.
            past: what was done about it.
            row_at: the time of its last row, by the trainer's clock.
            look: the look at the clock that led to it, if one did.
            named: the process that is known to have written that row, and that alone is meant then.
        """
        pursuit = enforce.of_finding(finding, past.file or "")
        if look is None and named is not None:
            pursuit.process = named
        elif look is None:
            pursuit.row_at = row_at
        else:
            pursuit.started_at = look.started_at
        self._resume(pursuit, past)

    def adopt(self, past: journal.Past) -> None:
        """Takes over a request that a person made with `checker kill`."""
        document = self.status.document
        if self.mode is not Mode.ACT or self.status.state is not contract.State.RUNNING or "kill" not in document:
            return
        pursuit = enforce.of_person(document, self.now)
        if pursuit is None or any(pursuit.id == known.id for known in self.pursuits):
            return
        known = past.acts_on(pursuit.id)
        pursuit.ranks = self._ranks()
        self._resume(pursuit, past)
        if not known:
            self._did(pursuit, Did.REQUESTED, f"a person asked: {pursuit.kill.reason}")

    def give_up(self, kill: contract.Kill, past: journal.Past) -> bool:
        """Opens the pursuit of a run that is to stop for what happened to its siblings, or takes it up again.

        A folder is asked once for one reason: who resumes its run afterwards has looked at it.

        Returns:
            Whether it is a new one.
        """
        if self.mode is Mode.JUDGE or any(pursuit.id == kill.id for pursuit in self.pursuits):
            return False
        kill = replace(kill, run_id=self.status.run_id)
        self._resume(Pursuit(kill.id, kill, kill.rule, process=self.status.process), past)
        return True

    def _resume(self, pursuit: Pursuit, past: journal.Past) -> None:
        known = past.acts_on(pursuit.id)
        if known and known[-1].get("act") == Did.CANNOT:  # told already, by an earlier checker
            pursuit.trouble = str(known[-1].get("text"))
        acts = [(act, self._ago(act)) for act in known]
        enforce.resume(pursuit, acts, self.now, observe=self.mode is Mode.OBSERVE)
        self.pursuits.append(pursuit)
        if self.mode is Mode.ACT and Did.SIGKILL in pursuit.done and not pursuit.ended:
            # Journaled, but perhaps not sent any more. Nobody can tell two of these from one.
            enforce.send_all(Did.SIGKILL, pursuit.process, None, dict.fromkeys(pursuit.ranks))
            pursuit.done[Did.SIGKILL] = self.now
            if Did.WORKERS_SIGKILL in pursuit.done:
                enforce.send_each(Did.WORKERS_SIGKILL, pursuit.workers)

    def _ago(self, act: journal.Entry) -> float:
        """How long ago a journaled act was: by the clock that nobody can set, where it is still the same one."""
        clock = act.get("clock")
        if isinstance(clock, dict) and clock.get("boot") == contract.boot_id() is not None:
            mono = contract.number_in(clock.get("seconds"))
            if mono is not None and 0.0 <= self.moment.mono - mono < math.inf:
                return self.moment.mono - mono
        at = seconds(act.get("at"))
        return 0.0 if at is None else max(0.0, self.moment.wall - at)

    def drive(self, case: Case) -> None:
        """Takes every step that is due. Only one request per run is driven, however many rules ask for it."""
        self._watch_signs()
        going = [pursuit for pursuit in self.pursuits if not pursuit.ended]
        true = {found.id for found in case.open_findings()} if going else set()
        for pursuit in sorted(going, key=lambda pursuit: Did.REQUESTED not in pursuit.done):
            while not pursuit.ended:
                seen = self._seen(pursuit, case, true)
                due = enforce.next_act(pursuit, self.now, seen, observe=self.mode is Mode.OBSERVE)
                if due is None or not self._perform(pursuit, due, case):
                    break
            if Did.REQUESTED in pursuit.done and not pursuit.ended:
                return

    # ------------------------------------------------------------------------------------------------------ seeing

    def _watch_signs(self) -> None:
        """Notes by our own clock when the heartbeat last moved and since when the run has been over."""
        beat = self.status.document.get("heartbeat_at")
        if beat != self._heartbeat[0]:
            self._heartbeat = (beat, self.now)
        final = self.status.state is not None and self.status.state.final
        self._final_since = (self._final_since if self._final_since is not None else self.now) if final else None

    def _seen(self, pursuit: Pursuit, case: Case, true: Collection[str]) -> enforce.Seen:
        """The run as it is now; `true` are the ids of the findings that are not over."""
        life = process.look(pursuit.process or process.parse(self.status.document))
        if life is Life.GONE:  # its last words may be newer than what was read before it went
            self.status.refresh()
        document = self.status.document
        named = self.status.process
        asked = contract.Kill.parse(document.get("kill"))
        answer = ack(document)
        if document.get("phase") == contract.Phase.CHECKPOINT and self.now - self._heartbeat[1] < enforce.FRESH:
            pursuit.saving_at = self.now
        if pursuit.process is None:
            life = process.look(named)
        if life is Life.STOPPED:
            pursuit.suspended_at = self.now
        if pursuit.forced and self.now - self._listed >= _LISTED_SECONDS:
            self._list_workers(pursuit)
        episode = case.episodes.get(pursuit.rule or "")
        ended = not pursuit.from_outside and pursuit.id not in true
        stale = enforce.stale(pursuit, seconds(document.get("started_at")))
        foreign = enforce.foreign(pursuit, self.status.run_id, named)
        return enforce.Seen(
            state=self.status.state,
            final_for=self.now - self._final_since if self._final_since is not None else 0.0,
            foreign=foreign,
            standing=contract.pending_kill(document) is not None,
            acked=answer is not None and answer[0] in {pursuit.kill.id, asked.id if asked else None},
            life=life,
            sure=pursuit.from_outside or (episode is not None and episode.since_sure is not None),
            over=ended or stale,
            asked=asked is not None
            and asked.id == pursuit.kill.id
            and asked.run_id in (None, self.status.run_id)
            and not (stale or foreign),
            can_dump=enforce.may_dump(document.get("stack_signal")),
            others_live=any(process.look(rank) in (Life.ALIVE, Life.STOPPED) for rank in pursuit.ranks),
            workers_live=any(map(process.same, pursuit.workers)),
        )

    def _list_workers(self, pursuit: Pursuit) -> None:
        """Notes what the processes of the run have started by now; those that have lost their parent are kept."""
        self._listed = self.now
        known = tuple(one for one in pursuit.workers if process.same(one))
        own = tuple(one for one in (pursuit.process, *pursuit.ranks) if one is not None)
        found = kin.below((*own, *known), self.status.file.path.parent)
        pursuit.workers = tuple(one for one in dict.fromkeys((*known, *found)) if one not in own)

    def _ranks(self) -> tuple[contract.Process, ...]:
        """The other ranks of the run that are proven to live on this machine."""
        return tuple(member.process for member in self.rank_files.living if member.process is not None)

    # ------------------------------------------------------------------------------------------------------- doing

    def _perform(self, pursuit: Pursuit, due: Did, case: Case) -> bool:
        """Takes one step and journals it; False when it must be tried again later."""
        try:
            if due in _SIGNALS:
                return self._signal(pursuit, due)
            did, text = self._take(pursuit, due, case)
            self._did(pursuit, did, text)
        except enforce.Later:
            return False
        return did is due  # what could not be done now cannot be done in the same look either

    def _take(self, pursuit: Pursuit, due: Did, case: Case) -> tuple[Did, str]:
        if due is Did.REQUESTED:
            return self._request(pursuit, case)
        if due is Did.REASSERTED:
            trouble = enforce.ask(self.status.file, pursuit.kill)
            self.status.refresh()
            # One that cannot be repeated was made once, and is pursued: a full disk must not save a doomed run.
            return due, f"the request had vanished from the status file{f', and {trouble}' if trouble else ''}"
        return due, self._sentence(pursuit, due)

    def _signal(self, pursuit: Pursuit, due: Did) -> bool:
        """Sends a signal once the journal says so.

        A checker that is killed in between then neither sends it twice nor takes the end of the process for a crash.
        """
        trouble = process.stranger(self.status.file.path.parent)
        if due in enforce.WORKERS:
            self._did(pursuit, due, trouble or enforce.send_each(due, pursuit.workers, probe=True))
            if trouble is None:
                enforce.send_each(due, pursuit.workers)
            return True
        dump, others = self.status.document.get("stack_signal"), self._dumps(pursuit)
        found: list[int] = []
        if trouble is None:
            found, trouble = enforce.send_all(due, pursuit.process, dump, others, probe=True)
        if trouble is not None:
            if process.starved():
                raise enforce.Later("no file can be opened just now, so nothing is known about the process")
            self._did(pursuit, Did.CANNOT, trouble)
            return False
        if due in enforce.FORCE:  # before it dies: nobody can tell afterwards what it had started
            self._list_workers(pursuit)
        self._did(pursuit, due, f"sent to process{'es' if len(found) > 1 else ''} {', '.join(map(str, found))}")
        enforce.send_all(due, pursuit.process, dump, others)
        return True

    def _dumps(self, pursuit: Pursuit) -> dict[contract.Process, int | None]:
        """The other ranks that are to end with rank 0, each with its signal for a stack dump."""
        signals = {member.process: member.document.get("stack_signal") for member in self.rank_files.living}
        return {rank: signals.get(rank) for rank in pursuit.ranks}

    def _request(self, pursuit: Pursuit, case: Case) -> tuple[Did, str]:
        if Did.LOOKED_AGAIN not in pursuit.done:
            why = pursuit.kill.reason if pursuit.from_outside else f"still so at row {case.history.index}"
            self._did(pursuit, Did.LOOKED_AGAIN, why)
        pursuit.kill = replace(pursuit.kill, run_id=self.status.run_id)
        pursuit.process, pursuit.ranks = self.status.process, self._ranks()
        standing = contract.Kill.parse(self.status.document.get("kill"))
        if standing is not None and standing.id == pursuit.kill.id:  # asked by a checker that then was killed
            pursuit.done.pop(Did.CANNOT, None)
            return Did.REQUESTED, pursuit.kill.reason
        standing = contract.pending_kill(self.status.document)
        trouble = enforce.ask(self.status.file, pursuit.kill)
        self.status.refresh()
        if trouble:
            return Did.CANNOT, trouble
        pursuit.done.pop(Did.CANNOT, None)
        return Did.REQUESTED, f"{standing.requested_by} had asked already" if standing else pursuit.kill.reason

    def _sentence(self, pursuit: Pursuit, due: Did) -> str:
        answer = ack(self.status.document)
        took = self.now - pursuit.done.get(Did.REQUESTED, self.now)
        alive = process.look(pursuit.process) in (Life.ALIVE, Life.STOPPED)
        sentences = {
            Did.CANNOT: self.status.problem or "there is no status file, so no trainer looks for a request",
            Did.ACKNOWLEDGED: f"at step {answer[1]}" if answer and answer[1] is not None else "without a step",
            Did.STOPPED: f"after {took:.1f} s{_LIVES_ON if alive else self._left(pursuit)}",
            Did.SUSPENDED: "it is suspended and cannot answer; nothing is forced until it goes on",
            Did.RECOVERED: "it went away again; nothing more is done",
            Did.OBSERVED: f"would have asked to stop: {pursuit.kill.reason}",
            Did.UNANSWERED: f"not gone {took:.0f} s after the request, SIGKILL included: {self._held(pursuit)}",
        }
        return sentences[due]

    @staticmethod
    def _held(pursuit: Pursuit) -> str:
        return process.held(pursuit.process) or "look at the machine"

    @staticmethod
    def _left(pursuit: Pursuit) -> str:
        """What still lives of what a process had started that was sent a signal."""
        left = [str(one.pid) for one in pursuit.workers if process.same(one)] if pursuit.forced else []
        return f"; of what it had started, {', '.join(left)} live on" if left else ""

    def _did(self, pursuit: Pursuit, did: Did, text: str) -> None:
        """Records a step, in the journal and in the pursuit."""
        if did is Did.CANNOT and pursuit.trouble == text:
            pursuit.done[did] = self.now
            return  # told already; a full disk or a folder without rights lasts
        pursuit.trouble = text if did is Did.CANNOT else None
        if did is Did.REASSERTED:
            pursuit.done[did] = self.now
            pursuit.reasserted += 1
            if pursuit.reasserted & (pursuit.reasserted - 1):
                return  # told the 1st, 2nd, 4th, 8th … time: some trainers overwrite the file for ever
        content: journal.Entry = {"finding": pursuit.id, "rule": pursuit.rule, "act": str(did), "text": text}
        if did is Did.REQUESTED:
            content |= {"kill": pursuit.kill.id, "run_id": pursuit.kill.run_id}
            content["process"] = asdict(pursuit.process) if pursuit.process else None
            content |= {"ranks": [asdict(rank) for rank in pursuit.ranks]} if pursuit.ranks else {}
        if did in (*enforce.FORCE, *enforce.WORKERS) and pursuit.workers:
            content["workers"] = [asdict(worker) for worker in pursuit.workers]
        if did in (Did.CANNOT, Did.SUSPENDED, Did.UNANSWERED):
            content["why"] = text
        content["clock"] = {"boot": contract.boot_id(), "seconds": self.moment.mono}
        self._write("act", content, did in _SYNCED, did in _EVIDENCE)
        pursuit.done[did] = self.now
        if did is not Did.LOOKED_AGAIN:
            severity = Severity.CRITICAL if did in (Did.CANNOT, Did.UNANSWERED) else Severity.INFO
            self._say(f"{_PHRASE.get(did, did)}: {text}", severity, pursuit.rule or "person", str(did))
