"""How many messages there may be: so many a minute, and what goes beyond shares one. Numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from checker.alarms.incidents import Incident

MINUTE = 60.0

PAUSE = (2.0, 300.0)
"""First and longest pause before a channel that failed is tried again. A service that is down for a night is asked a
hundred times; one that only stumbled loses two seconds."""


def recent(sent: Iterable[float], now: float) -> list[float]:
    """When messages were sent within the last minute. A time to come is from before the clock was set back."""
    return [at for at in sent if now - MINUTE < at <= now]


def free(sent: Sequence[float], now: float, per_minute: int) -> int:
    """How many messages may be sent now."""
    return max(0, per_minute - len(recent(sent, now)))


def until_free(sent: Sequence[float], now: float, per_minute: int) -> float:
    """Seconds until one may be sent."""
    known = sorted(recent(sent, now))
    return max(0.0, known[-per_minute] + MINUTE - now) if len(known) >= per_minute else 0.0


def batch(ripe: Iterable[Incident], free: int) -> list[Incident]:
    """What goes into the next message: the gravest and oldest incident alone, or everything when it is the last one.

    So of a burst the worst are told one by one, and the last message that is free says the rest.
    """
    ordered = sorted(ripe, key=lambda incident: (not incident.grave, incident.first))
    return ordered if free == 1 else ordered[:1]


def pause(tries: int) -> float:
    """Seconds from the failure number `tries` in a row to the next try."""
    first, longest = PAUSE
    return float(min(first * 2 ** min(tries - 1, 30), longest))
