"""Nothing moves any more, but the process lives.

What it sees: no new step for much longer than this run has ever paused in its present phase, while the process is
alive and its heartbeat says that the loop stands still.

Why it matters: a blocked data loader, a deadlock or a lost collective waits for ever at full price. Nothing in the
metrics shows it, because nothing is written.

How it decides: silence is measured against the run's own pauses: three times the 99th percentile, one and a half times
the longest, thirty times the median, and never less than ten seconds; evaluation, checkpoint and compile phases are
judged by their own pauses, and get ten minutes while they have few, or one and a half times the longest of these. A
fit (phase `fit`) always gets these ten minutes, since the next parameters of a search may cost many times the last.
Before the first step and inside a fit a process that computes gets half an hour and is never killed: a fit may take
hours without a row, and only its budget ends it. Otherwise it is certain when the heartbeat goes on, the process is
alive, does next to no work on the CPU, and the silence has lasted four times that limit and three minutes: a hung
process cannot save itself, so the kill has to wait for what heals by itself, such as a file server. A process that
still computes may be inside a long step: it is certain only after half an hour. A suspended process and one on another
machine are reported, never killed. Time in which the run was suspended, or the checker itself stood still because the
machine slept, does not count. Where there is no status file, a log that declares its length and ends before it is
reported. On real processes (make bench-live) it told of all 71 hangs that were due and that a status file or a
declared length shows, killed all 44 whose time had come, and none of 338 healthy ones.

What to do: read `stacks.txt` (all threads at the moment of the hang): the top frame names the culprit. Give loaders a
timeout and workers a limit. Where a rank is named: one that hangs has its own stacks in `ranks/`; of one that is gone
the end of its output tells, or the kernel log of its machine (out of memory). Otherwise look for a rank that waits for
another.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker import ranks
from checker.events import Life, Rank, Tick
from checker.finding import Grade, Sighting
from checker.history import History


@dataclass(frozen=True)
class Limits:
    floor_seconds: float = 10.0
    q99_times: float = 3.0
    longest_times: float = 1.5
    median_times: float = 30.0
    """An unannounced evaluation of 20 steps' length is common in flat logs."""
    few: int = 5
    """Gaps below which nothing is known of a phase."""
    unknown_seconds: float = 600.0
    """Limit for a phase without known gaps: PyTorch's collective timeout and DLRover's hang limit are 10 minutes."""
    sure_times: float = 4.0
    sure_seconds: float = 180.0
    """Twice the 90 seconds for which an NFSv4 server lets nobody write after its restart. At 60 seconds one of 18
    healthy processes that stood still once for 65 to 100 seconds was killed (make bench-live)."""
    idle: float = 0.1
    """Share of one core under which a process does nothing (a hung loader: 0.00; the heartbeat thread: 0.001)."""
    busy_seconds: float = 1800.0
    """SageMaker's StalledTrainingRule takes 30 minutes."""
    heartbeat_seconds: float = 10.0
    """Ten missed beats: the heartbeat is not going on."""
    blocked_seconds: float = 5.0
    """Uninterruptible sleep that is worth a word: a local disk answers in milliseconds, a busy one in seconds."""
    lost_seconds: float = 60.0
    """For how long another rank must be gone: torchrun ends the others itself within 30 s, and a rank 0 whose library
    notices fails with a better word than ours."""


LIMITS = Limits()

FIT = "fit"

_LONG = ("start", FIT)
"""Phases in which a process may compute for as long as a whole model takes, without a row."""

_WATCHED = ("pending", "running")


def detect(history: History, limits: Limits) -> Sighting | None:
    """A stall at the last tick."""
    tick = history.tick
    if tick is None or tick.final or tick.life is Life.GONE or not _goes_on(history, tick.state):
        return None
    alive_at = max(filter(None, (history.at, tick.progress_at, tick.started_at)), default=None)
    if alive_at is None:
        return None
    silence = tick.now - alive_at - (tick.excused or 0.0)
    phase = tick.phase or history.phase
    allowed = _allowed(history, phase, limits)
    fits = phase in _LONG and tick.busy is not None and tick.busy >= limits.idle
    if fits:
        allowed = max(allowed, limits.busy_seconds)
    lost = _lost(history, tick, silence, limits)
    if silence <= allowed and not lost:
        return None
    sure = not fits and _sure(tick, silence, allowed, limits, lost)
    step = history.step if tick.step is None else tick.step
    told = f"no new step for {silence:.0f} s in phase {phase} (allowed: {allowed:.0f} s)"
    blame = ranks.of_lost(lost, tick) if lost else ranks.blame(tick)
    return Sighting(
        grade=Grade.SURE if sure else Grade.SUSPECT,
        first_row=max(history.index, 0),
        first_step=step,
        summary=f"{blame.text}: {told}" if blame else told,
        evidence={
            "silent_seconds": silence,
            "allowed_seconds": allowed,
            "longest_gap_before": history.gap(phase).longest,
            "phase": phase,
            "process": str(tick.life),
            "heartbeat_age": None if tick.heartbeat_at is None else tick.now - tick.heartbeat_at,
            "cpu_share": tick.busy,
            **({"excused_seconds": tick.excused} if tick.excused else {}),
            **({"uninterruptible_seconds": tick.blocked} if _blocked(tick, limits) else {}),
            **(blame.evidence if blame else {}),
        },
        against=_against(tick, allowed, limits),
    )


def _goes_on(history: History, state: str | None) -> bool:
    """Whether the run says that it is not over. Without a status file only a declared length can tell."""
    if state is not None:
        return state in _WATCHED
    return history.progress is not None and history.progress < 1 and not history.ended


def _allowed(history: History, phase: str, limits: Limits) -> float:
    gaps = history.gap(phase)
    if gaps.count < limits.few:
        return max(limits.unknown_seconds, limits.longest_times * gaps.longest)
    least = max(limits.floor_seconds, limits.median_times * gaps.quantile(0.5))
    return max(
        limits.unknown_seconds if phase == FIT else least,
        limits.q99_times * gaps.quantile(0.99),
        limits.longest_times * gaps.longest,
    )


def _lost(history: History, tick: Tick, silence: float, limits: Limits) -> list[Rank]:
    """Ranks that are gone for good, once rank 0 has stood still since for longer than it ever did."""
    longest = max(limits.floor_seconds, limits.longest_times * history.gap(tick.phase or history.phase).longest)
    if silence <= longest:
        return []
    return [rank for rank in ranks.lost(tick) if ranks.waited(rank, tick.now) > longest]


def _sure(tick: Tick, silence: float, allowed: float, limits: Limits, lost: list[Rank]) -> bool:
    if tick.life is not Life.ALIVE or tick.heartbeat_at is None or ranks.suspended(tick):
        return False
    if tick.now - tick.heartbeat_at > limits.heartbeat_seconds or _moves(tick, allowed):
        return False
    if lost:
        gone = max(ranks.waited(rank, tick.now) for rank in lost)
        return min(silence, gone) >= limits.lost_seconds and silence > allowed
    if tick.busy is None or silence < max(limits.sure_times * allowed, limits.sure_seconds):
        return False
    return tick.busy < limits.idle or silence > max(limits.busy_seconds, limits.sure_times * allowed)


def _moves(tick: Tick, allowed: float) -> bool:
    """Whether another rank goes on without rank 0."""
    moved_at = ranks.moved_at(tick)
    return moved_at is not None and tick.now - moved_at - (tick.excused or 0.0) <= allowed


def _blocked(tick: Tick, limits: Limits) -> bool:
    return tick.blocked is not None and tick.blocked >= limits.blocked_seconds


def _against(tick: Tick, allowed: float, limits: Limits) -> tuple[str, ...]:
    told = []
    if tick.life is Life.STOPPED:
        told.append("the process is suspended (SIGSTOP or a debugger): it can go on")
    if _blocked(tick, limits):
        told.append(
            f"its main thread has been in uninterruptible sleep for {tick.blocked:.0f} s: it waits for a disk, a "
            "network file system or a driver, and a signal may reach it only when that returns"
        )
    if ranks.suspended(tick):
        told.append("a rank is suspended (SIGSTOP or a debugger): it can go on")
    if _moves(tick, allowed):
        told.append("another rank still moves: it may not depend on rank 0")
    if tick.life is Life.UNKNOWN:
        told.append("the process runs elsewhere or is not named: it cannot be seen from here")
    if tick.busy is not None and tick.busy >= limits.idle:
        told.append(f"the process still uses {tick.busy:.0%} of a core: it may be inside a long step")
    if tick.heartbeat_at is not None and tick.now - tick.heartbeat_at > limits.heartbeat_seconds:
        told.append("its heartbeat stopped as well: the machine may have been asleep or overloaded")
    return tuple(told)
