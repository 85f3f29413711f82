"""The process is gone, and it did not say goodbye.

What it sees: a status file that says running while the process it names no longer exists, or a run that ended with an
error.

Why it matters: nobody else will say so. The status of a killed process stays "running" for ever, a queue waits for
it, and a person believes that the night's run is still going.

How it decides: the process must be proven gone (same machine, same boot, and its pid free or given to a process that
started at another time) and stay gone for two seconds, which leaves time for a last write. "Unknown" is not "dead": a
process on another machine is never called crashed. On real processes (make bench-live) it told of all 40 crashes with
a status file within 3 seconds.

What to do: look at the end of the run's output. Killed without a trace usually means the out-of-memory killer (see
the kernel log). Resume from the last checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.events import Life
from checker.finding import Grade, Sighting
from checker.history import History


@dataclass(frozen=True)
class Limits:
    gone_seconds: float = 2.0
    """Twice the heartbeat of a trainer, so that its last status is on disk."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """A crash, at the last tick."""
    tick = history.tick
    if tick is None:
        return None
    if tick.state == "failed":
        return _sighting(history, f"the run failed: {tick.error or 'no reason was written'}", None, ())
    if tick.state not in ("pending", "running") or tick.life is not Life.GONE or tick.gone_since is None:
        return None
    gone = tick.now - tick.gone_since
    if gone < limits.gone_seconds and not tick.final:
        return None
    against = () if history.index >= 0 else ("it had not written a single row: it may never have started",)
    return _sighting(history, "the process is gone while its status says running", tick.heartbeat_at, against)


def _sighting(history: History, told: str, heartbeat: float | None, against: tuple[str, ...]) -> Sighting:
    tick = history.tick
    silent = tick.now - heartbeat if tick is not None and heartbeat is not None else None
    return Sighting(
        grade=Grade.SURE,
        first_row=max(history.index, 0),
        first_step=history.step,
        summary=f"{told}; last step {history.step}" if history.step is not None else told,
        evidence={"last_row": history.index, "seconds_since_heartbeat": silent, "error": tick.error if tick else None},
        against=against,
    )
