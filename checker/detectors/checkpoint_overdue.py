"""The next checkpoint is overdue.

What it sees: a run that used to save checkpoints and has not for three times its longest interval, or that has never
saved one in an hour.

Why it matters: everything since the last checkpoint is lost with the next crash. A full disk or a failed save is
often noticed only then.

How it decides: the time since the last checkpoint against this run's own intervals, at least ten minutes. It is
reported once and never killed: a run that cannot save is the last one to stop.

What to do: look at the free disk space and at the log of the last save; make the trainer save now.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History


@dataclass(frozen=True)
class Limits:
    times: float = 3.0
    floor_seconds: float = 600.0
    never_seconds: float = 3600.0


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """An overdue checkpoint, at the last tick."""
    tick = history.tick
    if tick is None or tick.state != "running" or tick.final:
        return None
    last, gaps = history.last_checkpoint, history.gap("between_checkpoints")
    if last is not None and gaps.count:
        late, allowed = tick.now - last, max(limits.floor_seconds, limits.times * gaps.longest)
    elif last is None and tick.started_at is not None:
        late, allowed = tick.now - tick.started_at, limits.never_seconds
    else:
        return None
    if tick.age is not None:  # a clock that was set forward makes nobody late
        late = min(late, tick.age)
    if late <= allowed:
        return None
    return Sighting(
        grade=Grade.SUSPECT,
        first_row=max(history.index, 0),
        first_step=history.step,
        summary=f"no checkpoint for {late / 60:.0f} minutes (the longest interval so far was {gaps.longest / 60:.1f})",
        evidence={"seconds_since_checkpoint": late, "allowed_seconds": allowed, "checkpoints": history.checkpoints},
        against=() if last else ("the trainer may not report its checkpoints",),
    )
