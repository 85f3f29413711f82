"""Silence that is not the run's fault: the machine slept, the checker stood still as well, or the run was suspended.

After such a time every run looks as if it had hung, its heartbeat is the first thing to wake, and the step that was
interrupted still has to be finished. So what nobody could have used is taken off its silence. Of 50 healthy runs on a
machine that slept for 80 s, 5 were killed and 27 named before this was done, and none since (tests/bench/live.py).
"""

from __future__ import annotations

from checker.events import Life
from checker.terms import Moment

NAP = 5.0
"""Seconds. The loop waits for one second at most, and the time it works itself is known; more than this is no pause of
its own but a laptop that slept, a container that was paused, a clock that was set, or a machine with no time for us."""


class Naps:
    """Adds up for how long the checker itself stood still."""

    def __init__(self) -> None:
        self.total = 0.0
        self._last: tuple[float, float] | None = None

    def look(self, wall: float, cpu: float) -> float:
        """The seconds so far; `cpu` is the processor time that the checker has used itself."""
        if self._last is not None:
            stood = (wall - self._last[0]) - (cpu - self._last[1])
            self.total += stood if stood > NAP else 0.0
        self._last = wall, cpu
        return self.total


class Excuse:
    """How much of the present silence of one run does not count."""

    __slots__ = ("_key", "_last", "_life", "_slept", "_stopped")

    def __init__(self) -> None:
        self._key: object = None
        self._last: Moment | None = None
        self._life = Life.UNKNOWN
        self._slept = self._stopped = 0.0

    def look(self, key: object, moment: Moment, life: Life) -> float | None:
        """Seconds since `key` last changed, None when there are none.

        Whether a change came before or after a nap that was noticed with it, nobody knows: the nap is excused.
        While a process is suspended its silence counts: it is reported then. It is excused once the process goes on.
        """
        if key != self._key:
            self._key, self._slept, self._stopped = key, 0.0, 0.0
        if self._last is not None:
            slept = moment.slept - self._last.slept
            self._slept += slept
            if self._life is Life.STOPPED:
                self._stopped += max(0.0, moment.wall - self._last.wall - slept)
        self._last, self._life = moment, life
        return (self._slept + (0.0 if life is Life.STOPPED else self._stopped)) or None
