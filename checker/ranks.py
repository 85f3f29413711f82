"""Which rank of a distributed run do the others wait for? Said of one look, and only where something tells them apart.

Ranks that wait in a collective for a rank that is gone or hangs look much alike: they live, they have taken the same
step, and on a GPU they even compute. What tells is who is gone, failed, suspended or silent, who is behind, and who is
doing something else than training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from checker.events import Life, Rank, Tick

BEATS = 10.0
"""Seconds without a heartbeat after which a process counts as silent: ten of its beats."""

TRAIN = "train"

_SHOWN = 4
"""Ranks that are named with their number; of more, one is told in full and the others are counted."""

_LONGEST = 80
"""Characters of an error, a phase or a host in a sentence: a file of a rank may hold anything."""


class Blame(NamedTuple):
    """The rank that the others wait for, as half a sentence and as numbers."""

    text: str
    evidence: dict[str, Any]


def lost(tick: Tick) -> list[Rank]:
    """Ranks whose process is proven gone without a goodbye, and those that say that they have failed."""
    return [rank for rank in tick.ranks if _lost(rank)]


def _lost(rank: Rank) -> bool:
    return rank.state == "failed" or (rank.state == "running" and rank.life is Life.GONE)


def waited(rank: Rank, now: float) -> float:
    """For how many seconds a lost rank has certainly been gone; 0 for one of which only its own words are known."""
    return now - rank.gone_since if rank.life is Life.GONE and rank.gone_since is not None else 0.0


def suspended(tick: Tick) -> bool:
    return any(rank.life is Life.STOPPED for rank in tick.ranks)


def moved_at(tick: Tick) -> float | None:
    """When any of the other ranks last moved."""
    return max((rank.progress_at for rank in tick.ranks if rank.progress_at is not None), default=None)


def before(tick: Tick, seconds: float) -> list[Rank]:
    """Ranks that had failed or were gone before rank 0 was, as far as that is certain, the earliest first.

    All are watched once a second, so of two that went within `seconds` nobody knows which was the first.
    """
    found = [rank for rank in lost(tick) if _before(rank, tick, seconds)]
    return sorted(found, key=lambda rank: (rank.beat_at or 0.0, rank.rank))


def _before(rank: Rank, tick: Tick, seconds: float) -> bool:
    if rank.state == "failed" and rank.beat_at is not None and tick.heartbeat_at is not None:
        return rank.beat_at + (BEATS if rank.life is Life.UNKNOWN else 0.0) <= tick.heartbeat_at  # another clock
    if rank.gone_since is None:
        return False
    return (tick.now if tick.gone_since is None else tick.gone_since) - rank.gone_since > seconds


def mute_since_failure(tick: Tick) -> list[Rank]:
    """Ranks that are gone without a word, and were not heard of any more once rank 0 had failed.

    Perhaps rank 0 failed because of them. Those that their launcher ended afterwards have mostly been heard of later.
    """
    failed = tick.heartbeat_at or 0.0
    mute = [rank for rank in lost(tick) if rank.state == "running" and rank.beat_at is not None]
    return sorted((rank for rank in mute if (rank.beat_at or 0.0) <= failed), key=lambda rank: rank.beat_at or 0.0)


def blame(tick: Tick) -> Blame | None:
    """Whom rank 0 waits for, or that all others wait for rank 0; None where nothing tells them apart."""
    for choose, tell in _WAYS:
        found = choose(tick)
        if found:
            return _of(found, tick, tell(found[0], tick))
    if _rank_0_is_behind(tick):
        doing = f"in phase {_short(tick.phase)}" if tick.phase != TRAIN else f"at step {tick.step}"
        return Blame(f"rank 0 is {doing}; the others are further and wait for it", {"rank": 0})
    return None


def of_lost(found: Sequence[Rank], tick: Tick) -> Blame:
    """The same for ranks that are known to be lost."""
    return _of(found, tick, _gone(found[0], tick))


def _of(found: Sequence[Rank], tick: Tick, told: str) -> Blame:
    first = found[0]
    more = f" (so are ranks {_numbers(found[1:])})" if len(found) > 1 else ""
    moved = None if first.progress_at is None else tick.now - first.progress_at
    evidence = {
        "rank": first.rank,
        "rank_step": first.step,
        "rank_process": str(first.life),
        "rank_silent_seconds": moved,
        "rank_phase": None if first.phase is None else _short(first.phase),
        "rank_pid": first.pid,
    }
    return Blame(
        f"{called(first)} {told}{more}", {name: value for name, value in evidence.items() if value is not None}
    )


def called(rank: Rank) -> str:
    """A rank as a person finds it: `rank 1 (pid 123 on host)`."""
    if rank.pid is None:
        return f"rank {rank.rank}"
    return f"rank {rank.rank} (pid {rank.pid}{f' on {_short(rank.host)}' if rank.host else ''})"


def ended(rank: Rank) -> str:
    """How a lost rank ended, as half a sentence."""
    at = "before its first step" if rank.step is None else f"at step {rank.step}"
    if rank.state == "failed":
        return f"failed {at}" + (f" ({_short(rank.error)})" if rank.error else "")
    return "is gone " + (at if rank.step is None else f"since step {rank.step}")


def _numbers(ranks: Sequence[Rank]) -> str:
    shown = ", ".join(str(rank.rank) for rank in ranks[:_SHOWN])
    return shown if len(ranks) <= _SHOWN else f"{shown} and {len(ranks) - _SHOWN} more"


def _short(text: str | None) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


# ------------------------------------------------------------------------------------------- what tells them apart


def _gone(rank: Rank, _: Tick) -> str:
    return f"{ended(rank)} while rank 0 waits"


def _suspended(tick: Tick) -> list[Rank]:
    return [rank for rank in tick.ranks if rank.life is Life.STOPPED]


def _tell_suspended(rank: Rank, _: Tick) -> str:
    return f"is suspended{_since(rank)} and the others wait for it"


def _mute(tick: Tick) -> list[Rank]:
    """Ranks whose heartbeat stopped about when rank 0 last moved, while that of rank 0 goes on.

    The clock of another machine may be behind by a little, so being behind is not enough.
    """
    if tick.heartbeat_at is None or tick.progress_at is None or tick.now - tick.heartbeat_at > BEATS:
        return []
    latest = min(tick.progress_at, tick.heartbeat_at - 2 * BEATS) + BEATS
    return [rank for rank in _running(tick) if rank.beat_at is not None and rank.beat_at < latest]


def _tell_mute(rank: Rank, tick: Tick) -> str:
    return f"was last heard of {tick.now - (rank.beat_at or tick.now):.0f} s ago{_since(rank)}; the others wait for it"


def _behind(tick: Tick) -> list[Rank]:
    """Ranks that have taken fewer steps than rank 0."""
    if tick.step is None:
        return []
    behind = [rank for rank in _running(tick) if rank.step is not None and rank.step < tick.step]
    least = min((rank.step or 0 for rank in behind), default=0)
    return [rank for rank in behind if rank.step == least]


def _elsewhere(tick: Tick) -> list[Rank]:
    """Ranks that are at the same step and do not train, while rank 0 does: who waits in a collective, trains."""
    if tick.phase != TRAIN:
        return []
    running = _running(tick)
    others = [rank for rank in running if rank.step == tick.step and rank.phase not in (None, TRAIN)]
    return others if len(others) < max(2, len(running)) else []


def _tell_standing(rank: Rank, tick: Tick) -> str:
    step = "before its first step" if rank.step is None else f"at step {rank.step}"
    ago = "" if rank.progress_at is None else f", {tick.now - rank.progress_at:.0f} s ago"
    phase = f", in phase {_short(rank.phase)}" if rank.phase else ""
    return f"last moved {step}{ago}{phase}; the others wait for it"


def _finished(tick: Tick) -> list[Rank]:
    """Ranks that left in good order before rank 0 was done: with less data than the others, perhaps."""
    return [rank for rank in tick.ranks if rank.state not in (None, "running", "failed")]


def _tell_finished(rank: Rank, _: Tick) -> str:
    at = "" if rank.step is None else f" at step {rank.step}"
    return f"has ended ({_short(rank.state)}){at} and takes part in nothing any more"


def _running(tick: Tick) -> list[Rank]:
    return [rank for rank in tick.ranks if rank.state == "running"]


def _since(rank: Rank) -> str:
    return "" if rank.step is None else f" since step {rank.step}"


def _rank_0_is_behind(tick: Tick) -> bool:
    running = _running(tick)
    if not running:
        return False
    ahead = all(rank.step is not None and tick.step is not None and rank.step > tick.step for rank in running)
    level = all(rank.step == tick.step and rank.phase == TRAIN for rank in running)
    return ahead or (level and tick.phase not in (None, TRAIN))


_WAYS = (
    (lost, _gone),
    (_suspended, _tell_suspended),
    (_mute, _tell_mute),
    (_behind, _tell_standing),
    (_elsewhere, _tell_standing),
    (_finished, _tell_finished),
)
"""From the clearest sign to the faintest."""
