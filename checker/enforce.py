"""The kill switch: which step comes next, as a pure function, and the hands that take it.

Ask through the status file and wait; the run saves itself and goes. Only a run that does not answer is signalled, and
only when it is certain which process that is. Every step is journaled, so a checker that was itself killed goes on
where it stopped, and nothing is done twice.
"""

from __future__ import annotations

import hashlib
import math
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import contract
from checker import process
from checker.events import Life
from checker.finding import Finding

PERSON = "person via checker"
"""Who asks when somebody says `checker kill`: the checker then also sees to it that it happens."""

POISONED = ("nonfinite", "hidden_nan")
"""Rules after which the weights are worth nothing: no checkpoint may take the place of a good one."""

GRACE = 30.0
"""Seconds to answer a request, and again to leave after answering: several times the slowest usual step."""

HUNG_GRACE = 5.0
"""A hung loop cannot answer at all, and has been silent for long; this is for the one that wakes up just now."""

DUMP_SECONDS = 2.0
"""Between the stack dump and SIGTERM: writing the stacks of a few threads takes milliseconds."""

TERM_GRACE = 10.0
"""Between SIGTERM and SIGKILL, and between SIGKILL and giving up: what init systems and schedulers allow at least."""

CHECKPOINT_GRACE = 600.0
"""Longest wait for a run that answered and is visibly still writing its checkpoint (100 GB at 200 MB/s)."""

FRESH = 30.0
"""A heartbeat older than this many seconds no longer shows that a checkpoint is being written."""

LEAVE_SECONDS = 10.0
"""How long a run that has said goodbye is watched until its process is gone."""

ORPHAN_GRACE = 10.0
"""Between the end of a process by force and SIGTERM for what it had started: PyTorch's data-loader workers look every
5 seconds whether their parent lives, and an upload may want to finish."""

RETRY_SECONDS = 1.0
"""Between two attempts to write a request into a file that could not be written."""

REASSERT_SECONDS = 1.0
"""Between two repetitions of a request that somebody's write has removed."""


class Did(StrEnum):
    """Journaled steps of a pursuit."""

    LOOKED_AGAIN = "looked-again"
    REQUESTED = "requested"
    RECOVERED = "recovered-before-act"
    OBSERVED = "observed"
    ACKNOWLEDGED = "acknowledged"
    REASSERTED = "reasserted"
    STACK_DUMP = "stack-dump"
    SIGTERM = "sigterm"
    SIGKILL = "sigkill"
    WORKERS_SIGTERM = "workers-sigterm"
    WORKERS_SIGKILL = "workers-sigkill"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    UNANSWERED = "unanswered"
    CANNOT = "cannot"


FORCE = frozenset({Did.SIGTERM, Did.SIGKILL})
"""After one of these a process may be gone without having said why."""

_SIGNALS = {
    Did.SIGTERM: signal.SIGTERM,
    Did.SIGKILL: signal.SIGKILL,
    Did.WORKERS_SIGTERM: signal.SIGTERM,
    Did.WORKERS_SIGKILL: signal.SIGKILL,
}

WORKERS = frozenset({Did.WORKERS_SIGTERM, Did.WORKERS_SIGKILL})
"""Steps that end what a process has left behind."""

ENDS = frozenset({Did.RECOVERED, Did.OBSERVED, Did.STOPPED, Did.UNANSWERED})
"""After one of these nothing more is done about the finding."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The run as it is at one moment."""

    state: contract.State | None = None
    """None: there is no status file, or none that can be read."""
    final_for: float = 0.0
    """Seconds since the state was first seen to be final."""
    foreign: bool = False
    """The folder belongs to another run or another process by now."""
    standing: bool = False
    """A request to stop stands in the file, not yet answered."""
    acked: bool = False
    life: Life = Life.UNKNOWN
    sure: bool = True
    """The rule still says so."""
    over: bool = False
    """The episode has ended, or was about an earlier process in the same folder."""
    can_dump: bool = False
    asked: bool = False
    """Our request is in the file, answered or not, although no journal says so: a checker was killed in between."""
    others_live: bool = False
    """Rank 0 may be gone, but another rank that is to end with it is proven to live."""
    workers_live: bool = False
    """Something that the process had started is proven to live."""

    @property
    def final(self) -> bool:
        return self.state is not None and self.state.final


@dataclass
class Pursuit:
    """One wish to stop one run, and how far it has come. Times are seconds of the monotonic clock."""

    id: str
    """Of the finding, or of the request when a person asked."""
    kill: contract.Kill
    rule: str | None = None
    done: dict[Did, float] = field(default_factory=dict)
    process: contract.Process | None = None
    """Who was asked. Nobody else is ever signalled, even if the status file names another process later."""
    ranks: tuple[contract.Process, ...] = ()
    """The other ranks of a distributed run that lived on this machine then: whoever ends it by force ends them too."""
    workers: tuple[contract.Process, ...] = ()
    """What these processes had started, and what that had started, when they were last seen before their end."""
    suspended_at: float | None = None
    """When the run was last seen suspended."""
    saving_at: float | None = None
    """When the run was last seen writing a checkpoint with a fresh heartbeat."""
    trouble: str | None = None
    """What was last told about something that cannot be done."""
    reasserted: int = 0
    row_at: float | None = None
    """The time of the row that the finding came with, by the trainer's clock."""
    started_at: float | None = None
    """When the process had started that the finding is about, if a look at the status led to it."""

    @property
    def from_outside(self) -> bool:
        """Nothing in the run's own rows stands behind it: a person has asked, or its siblings have failed alike."""
        return self.rule is None or self.id == self.kill.id

    @property
    def ended(self) -> bool:
        return not ENDS.isdisjoint(self.done)

    @property
    def forced(self) -> bool:
        """A signal was sent that ends a process."""
        return not FORCE.isdisjoint(self.done)

    @property
    def forced_at(self) -> float:
        """When the last signal was sent that ends a process."""
        return max((self.done[did] for did in FORCE if did in self.done), default=-math.inf)

    @property
    def grace(self) -> float:
        return min(self.kill.grace_seconds, HUNG_GRACE) if self.rule == "stall" else self.kill.grace_seconds


def next_act(pursuit: Pursuit, now: float, seen: Seen, *, observe: bool = False) -> Did | None:
    """The step that is due now, or None while there is nothing to do but wait."""
    done = pursuit.done
    if pursuit.ended:
        return None
    if Did.REQUESTED not in done:
        return _before_asking(pursuit, now, seen, observe=observe)
    if seen.acked and Did.ACKNOWLEDGED not in done:
        return Did.ACKNOWLEDGED
    if seen.foreign:
        return _clear(pursuit, now, seen) if seen.life is Life.GONE else Did.STOPPED
    if seen.life is Life.GONE:  # ranks that wait for a rank 0 that was ended by force would wait for ever
        ranks = pursuit.forced and seen.others_live
        return _escalate(pursuit, now, seen) if ranks else _clear(pursuit, now, seen)
    if seen.final:  # a notebook or a sweep may live on after its run; it is not ours to kill
        return Did.STOPPED if seen.life is Life.UNKNOWN or seen.final_for >= LEAVE_SECONDS else None
    if Did.ACKNOWLEDGED not in done and not seen.standing and seen.state is not None:
        last = max(done.get(did, -math.inf) for did in (Did.REQUESTED, Did.REASSERTED, Did.CANNOT))
        if now - last >= REASSERT_SECONDS:
            return Did.REASSERTED
    return _escalate(pursuit, now, seen)


def _before_asking(pursuit: Pursuit, now: float, seen: Seen, *, observe: bool) -> Did | None:
    if seen.asked and not observe:
        return Did.REQUESTED
    if seen.life is Life.GONE or seen.state not in (None, contract.State.RUNNING):
        return None  # already over, or not begun: there is nothing to stop
    if seen.over:
        return Did.RECOVERED
    if seen.foreign or not seen.sure:
        return None  # not this run, or not true at this moment; the next rows or the next status decide
    if observe:
        return Did.OBSERVED
    if seen.state is None:
        return None if Did.CANNOT in pursuit.done else Did.CANNOT
    failed = pursuit.done.get(Did.CANNOT) if Did.LOOKED_AGAIN in pursuit.done else None  # else nothing was tried yet
    return Did.REQUESTED if failed is None or now - failed >= RETRY_SECONDS else None


def _clear(pursuit: Pursuit, now: float, seen: Seen) -> Did | None:
    """What a process that was ended by force has left behind is ended too, and then all is done.

    Who has left by itself, even after SIGTERM, may have left something behind on purpose.
    """
    done = pursuit.done
    left_by_itself = seen.final and not seen.foreign
    if not (pursuit.forced and seen.workers_live) or left_by_itself:
        return Did.STOPPED
    if Did.WORKERS_SIGKILL in done:
        return Did.STOPPED if now - done[Did.WORKERS_SIGKILL] >= TERM_GRACE else None
    if Did.WORKERS_SIGTERM in done:
        return Did.WORKERS_SIGKILL if now - done[Did.WORKERS_SIGTERM] >= TERM_GRACE else None
    return Did.WORKERS_SIGTERM if now - pursuit.forced_at >= ORPHAN_GRACE else None


def _escalate(pursuit: Pursuit, now: float, seen: Seen) -> Did | None:
    """From asking to forcing, one step at a time, each with its own patience."""
    done = pursuit.done
    if Did.SIGKILL in done:
        return Did.UNANSWERED if now - done[Did.SIGKILL] >= TERM_GRACE else None
    if Did.CANNOT in done:
        return None
    if seen.life is Life.STOPPED:  # whoever suspended it has a reason; the request stands for when it goes on
        due = now - done[Did.REQUESTED] >= pursuit.grace and Did.SUSPENDED not in done
        return Did.SUSPENDED if due else None
    if Did.SIGTERM in done:
        return Did.SIGKILL if now >= _patience(pursuit, done[Did.SIGTERM], TERM_GRACE) else None
    if Did.STACK_DUMP in done:
        return Did.SIGTERM if now - done[Did.STACK_DUMP] >= DUMP_SECONDS else None
    if Did.ACKNOWLEDGED in done:
        deadline = _patience(pursuit, done[Did.ACKNOWLEDGED], pursuit.kill.grace_seconds)
    else:
        deadline = _awake(pursuit, done[Did.REQUESTED]) + pursuit.grace
        if seen.over and now >= deadline:
            return Did.RECOVERED
    if now < deadline:
        return None
    return Did.STACK_DUMP if seen.can_dump else Did.SIGTERM


def _patience(pursuit: Pursuit, since: float, grace: float) -> float:
    """Until when to wait, counted from an answer or a signal: longer for a run that is visibly saving itself."""
    since = _awake(pursuit, since)
    if pursuit.saving_at is None:
        return since + grace
    return max(since + grace, min(pursuit.saving_at + TERM_GRACE, since + CHECKPOINT_GRACE))


def _awake(pursuit: Pursuit, since: float) -> float:
    """The moment from which patience counts: a suspended process can do nothing."""
    return since if pursuit.suspended_at is None else max(since, pursuit.suspended_at)


# ------------------------------------------------------------------------------------------------------- opening


def of_finding(finding: Finding, file: str) -> Pursuit:
    """The pursuit of a finding in the metrics file with fingerprint `file`."""
    short = hashlib.sha256(f"{finding.id} {file}".encode()).hexdigest()[:8]
    kill = contract.Kill(
        id=f"{finding.rule}-{short}",
        reason=finding.summary,
        rule=finding.rule,
        requested_by="checker",
        requested_at=contract.now(),
        run_id=finding.run_id,
        grace_seconds=GRACE,
        save_checkpoint=finding.rule not in POISONED,
    )
    return Pursuit(finding.id, kill, finding.rule)


def stale(pursuit: Pursuit, started_at: float | None) -> bool:
    """Whether the finding is about an earlier process than the one that started at `started_at`.

    Run ids tell that better, but a trainer that simply appends to its old log may have none.
    """
    if started_at is None:
        return False
    if pursuit.started_at is not None:
        return started_at > pursuit.started_at + 1.0
    return pursuit.row_at is not None and started_at > pursuit.row_at + 1.0


def foreign(pursuit: Pursuit, run_id: str | None, named: contract.Process | None) -> bool:
    """Whether the status file speaks of another run or another process than the one that `pursuit` is about."""
    if None not in (pursuit.kill.run_id, run_id) and pursuit.kill.run_id != run_id:
        return True
    return None not in (pursuit.process, named) and pursuit.process != named


def of_person(document: dict[str, Any], now: float) -> Pursuit | None:
    """The pursuit of a request that somebody made with `checker kill`; a hand edit is left to the trainer."""
    try:
        kill = contract.Kill.parse(document.get("kill"))
    except TypeError:
        return None
    if kill is None or kill.requested_by != PERSON:
        return None
    if kill.run_id not in (None, document.get("run_id")):
        return None
    grace = contract.number_in(kill.grace_seconds)
    if grace is None or math.isnan(grace):
        grace = GRACE
    kill = replace(kill, grace_seconds=min(max(grace, 0.0), CHECKPOINT_GRACE))
    return Pursuit(kill.id, kill, kill.rule, {Did.REQUESTED: now}, process.parse(document))


def resume(pursuit: Pursuit, acts: list[tuple[dict[str, Any], float]], now: float, *, observe: bool) -> None:
    """Sets `pursuit` to where the journaled acts left it; each comes with the seconds that have passed since."""
    for act, ago in acts:
        try:
            did = Did(act.get("act", ""))
        except ValueError:
            continue
        if did is Did.OBSERVED and not observe:
            continue  # it was only watched then; now it may be acted on
        if did is Did.CANNOT:
            continue  # what could not be done then may be possible now
        if did is Did.REASSERTED:
            pursuit.reasserted += 1
        if did is Did.REQUESTED:
            pursuit.kill = replace(pursuit.kill, run_id=act.get("run_id"))
            pursuit.process = process.parse(act)
            pursuit.ranks = _processes(act, "ranks")
        pursuit.workers = _processes(act, "workers") or pursuit.workers
        pursuit.done[did] = now - ago


def _processes(act: dict[str, Any], key: str) -> tuple[contract.Process, ...]:
    """The processes that a journaled act names."""
    listed = act.get(key)
    found = (process.parse({"process": one}) for one in listed) if isinstance(listed, list) else ()
    return tuple(one for one in found if one is not None)


# --------------------------------------------------------------------------------------------------------- hands


class Later(Exception):
    """The step cannot be taken this very moment; it is due again at the next look."""


def ask(status: contract.StatusFile, kill: contract.Kill) -> str | None:
    """Writes the request.

    Returns:
        None when a request stands in the file now, else a sentence saying why not.

    Raises:
        Later: the file is being saved by someone else, or the run is over or no longer this one.
    """
    try:
        if contract.request_kill(status, kill):
            return None
    except FileNotFoundError:
        return "there is no status file, so no trainer looks for a request"
    except contract.StatusBusy as error:
        raise Later(str(error)) from None
    except OSError as error:
        return f"the status file cannot be written: {error}"
    raise Later("the run is over, or another one runs in its folder now")


def send(did: Did, named: contract.Process | None, stack_signal: int | None, *, probe: bool = False) -> str | None:
    """Sends the signal that belongs to a step; the answer is None, or a sentence saying why it was not sent.

    With `probe` everything is done but that: signal 0 is sent.
    """
    if did is Did.STACK_DUMP:
        if stack_signal is None or not may_dump(stack_signal):
            return "the status file names no harmless signal for a stack dump"
        return process.signal_if_same(named, 0 if probe else stack_signal)
    return process.signal_if_same(named, 0 if probe else _SIGNALS[did])


def send_each(did: Did, workers: Iterable[contract.Process], *, probe: bool = False) -> str:
    """Sends the signal of a step to each of `workers` that still lives, and says to whom; `probe` as in `send`."""
    living = [one for one in workers if process.same(one)]
    refused = {one.pid: trouble for one in living if (trouble := send(did, one, None, probe=probe)) is not None}
    sent = [str(one.pid) for one in living if one.pid not in refused]
    told = f"sent to {', '.join(sent)}" if sent else "sent to nobody"
    return "; ".join((told, *(f"not to {pid}: {trouble}" for pid, trouble in refused.items())))


def send_all(
    did: Did,
    named: contract.Process | None,
    stack_signal: int | None,
    others: Mapping[contract.Process, int | None],
    *,
    probe: bool = False,
) -> tuple[list[int], str | None]:
    """The same for rank 0 and, once that has worked or rank 0 is gone already, for the other ranks.

    Args:
        did: the step.
        named: the process of rank 0.
        stack_signal: its signal for a stack dump.
        others: the other ranks, each with its own such signal.
        probe: only find out to whom it would be sent.

    Returns:
        The pids to which the signal was sent, and why it was sent to none, if that is so. A rank that has gone
        meanwhile is as it should be; its launcher may have ended it.
    """
    trouble = send(did, named, stack_signal, probe=probe)
    sent = [named.pid] if named is not None and trouble is None else []
    if trouble is not None and process.look(named) is not Life.GONE:
        return sent, trouble
    for one, dump in others.items():
        refused = send(did, one, dump, probe=probe)
        if refused is None:
            sent.append(one.pid)
        elif process.look(one) is not Life.GONE:
            trouble = refused
    return sent, None if sent else trouble


def may_dump(stack_signal: object) -> bool:
    """Only signals that exist for such purposes: a status file must not be able to choose SIGKILL."""
    names = ("SIGUSR1", "SIGUSR2", "SIGQUIT")
    allowed = {int(getattr(signal, name)) for name in names if hasattr(signal, name)}
    realtime = range(getattr(signal, "SIGRTMIN", 0), getattr(signal, "SIGRTMAX", -1) + 1)
    return type(stack_signal) is int and (stack_signal in allowed or stack_signal in realtime)
