"""When a program that was asked to stop is told so by a signal. Standard library only."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contract import Kill, Phase, number_in, run_state

TERM_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL for a program that had its time to answer before."""

BEHIND = 15.0
"""Seconds added where the program answers for itself: a checker that enforces its request is through with SIGTERM and
SIGKILL by then, and a second SIGTERM would cut short the checkpoint that the first has begun."""

SAVING_SECONDS = 600.0
"""Longest wait for a program that is visibly writing its checkpoint, as long as a checker waits."""


def asked(document: Mapping[str, Any], run_id: str) -> Kill | None:
    """The request that stands in the file for this run, answered or not; None where there is none."""
    try:
        kill = Kill.parse(document.get("kill"))
    except TypeError:
        return None
    if kill is None or run_state(document).final:
        return None
    return kill if kill.run_id in (None, run_id, document.get("run_id")) else None


@dataclass
class Stopping:
    """One program on its way out. Times are seconds of the monotonic clock."""

    kill: Kill
    since: float
    answers: bool
    """The program looks at its status file itself, and so needs a signal only when it does not go."""
    term_at: float | None = None
    killed: bool = False

    @property
    def grace(self) -> float:
        found = number_in(self.kill.grace_seconds)
        return 30.0 if found is None or math.isnan(found) else min(max(found, 0.0), SAVING_SECONDS)

    def due(self, now: float, document: Mapping[str, Any]) -> int | None:
        """The signal that is due now, once each; None while there is nothing to do but wait."""
        saving = self.answers and document.get("phase") == Phase.CHECKPOINT and now - self.since < SAVING_SECONDS
        if self.term_at is None:
            if self.answers and (saving or now - self.since < self.grace + BEHIND):
                return None
            self.term_at = now
            return signal.SIGTERM
        patience = TERM_GRACE if self.answers else self.grace
        if self.killed or saving or now - self.term_at < patience:
            return None
        self.killed = True
        return signal.SIGKILL
