"""How often several processes look together whether somebody asks them to stop. Standard library only."""

from __future__ import annotations

import time

_LOOK_SECONDS = 0.5
"""Between two looks for a request to stop: asking all ranks at each step would cost a tiny model its speed."""


class Pace:
    """At which steps all ranks look for a request to stop; they agree on the next one each time."""

    def __init__(self) -> None:
        self._due = 0
        self._at: tuple[int, float] | None = None

    def due(self, step: int) -> bool:
        return step >= self._due

    def next(self, step: int) -> int:
        """The step of the next look, from the time that the steps since the last one took."""
        now, before = time.monotonic(), self._at
        self._at = step, now
        if before is None or step <= before[0]:
            return step + 1
        each = (now - before[1]) / (step - before[0])
        # At most twice as far as the last time, so that one quick step does not put off the next look for long.
        return step + max(1, min(round(_LOOK_SECONDS / max(each, 1e-6)), 2 * (step - before[0])))

    def agree(self, step: int) -> None:
        self._due = step
