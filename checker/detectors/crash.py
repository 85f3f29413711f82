"""The process is gone, and it did not say goodbye.

What it sees: a status file that says running while the process it names no longer exists, or a run that ended with an
error.

Why it matters: nobody else will say so. The status of a killed process stays "running" for ever, a queue waits for
it, and a person believes that the night's run is still going.

How it decides: the process must be proven gone (same machine, same boot, and its pid free or given to a process that
started at another time) and stay gone for two seconds, which leaves time for a last write. "Unknown" is not "dead": a
process on another machine is never called crashed. Of a distributed run this is rank 0, whose end is the run's; a rank
that had failed or was gone before it is named, and one of which that is not certain is mentioned (a rank that is gone
while rank 0 still waits is a stall). On real processes (make bench-live) it told of all 40 crashes with
a status file within 3 seconds.

What to do: look at the end of the run's output. Killed without a trace usually means the out-of-memory killer (see
the kernel log). Resume from the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from checker import ranks
from checker.events import Life, Rank, Tick
from checker.finding import Grade, Sighting
from checker.history import History


@dataclass(frozen=True)
class Limits:
    gone_seconds: float = 2.0
    """Twice the heartbeat of a trainer, so that its last status is on disk."""


LIMITS = Limits()

_SHOWN = 4
"""Other ranks that are mentioned."""


def detect(history: History, limits: Limits) -> Sighting | None:
    """A crash, at the last tick."""
    tick = history.tick
    if tick is None:
        return None
    if tick.state == "failed":
        mute = ranks.mute_since_failure(tick)
        beside = f", and {ranks.called(mute[0])} {ranks.ended(mute[0])}" if mute else ""
        return _sighting(history, tick, f"the run failed{beside}: {tick.error or 'no reason was written'}", limits)
    if tick.state not in ("pending", "running") or tick.life is not Life.GONE or tick.gone_since is None:
        return None
    gone = tick.now - tick.gone_since
    if gone < limits.gone_seconds and not tick.final:
        return None
    return _sighting(history, tick, "the process is gone while its status says running", limits)


_ZOMBIE = "whoever started it has not taken note yet, and would learn its exit code"


def _sighting(history: History, tick: Tick, told: str, limits: Limits) -> Sighting:
    failed = tick.state == "failed"
    silent = tick.now - tick.heartbeat_at if tick.heartbeat_at is not None and not failed else None
    first = ranks.before(tick, limits.gone_seconds)
    if first:
        told = f"{ranks.called(first[0])} {ranks.ended(first[0])} before rank 0; {told}"
    return Sighting(
        grade=Grade.SURE,
        first_row=max(history.index, 0),
        first_step=history.step,
        summary=f"{told}; last step {history.step}" if history.step is not None else told,
        evidence={
            "last_row": history.index,
            "seconds_since_heartbeat": silent,
            "error": tick.error,
            **({"zombie": _ZOMBIE} if tick.zombie else {}),
            **({"rank": first[0].rank, "rank_step": first[0].step} if first else {}),
        },
        against=tuple(_against(history, tick, first)),
    )


def _against(history: History, tick: Tick, first: Sequence[Rank]) -> Iterator[str]:
    if history.index < 0 and tick.state != "failed":
        yield "it had not written a single row: it may never have started"
    for rank in ranks.lost(tick)[:_SHOWN]:
        if rank not in first:
            yield f"{ranks.called(rank)} {ranks.ended(rank)} as well: which of them was the first cannot be told"
