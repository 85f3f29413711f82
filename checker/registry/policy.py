"""What a promotion, a loop of experiments and a sweep are measured by.

In `checker.toml`: `[promotion]`, `[loop]` and `[sweep]`. All tables of that file that are no limits of rules are called
here, with the words that a key of text may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import contract
from checker.alarms.policy import NOTIFY, SEVERITIES


@dataclass(frozen=True)
class Promotion:
    """What a checkpoint must show before it may be trusted."""

    min_gain: float = 0.0
    """How much better than the baseline the evaluation must be, in units of the metric. The baseline is the promoted
    ancestor's evaluation on the same data, or the parent's; without one there is nothing to beat."""
    min_evaluations: int = 1
    """Evaluations of exactly this checkpoint, with a finite metric."""
    min_dwell_minutes: float = 0.0
    """How long ago the first of them must be: time for somebody to object. principles-disciple asks for 60."""


@dataclass(frozen=True)
class Loop:
    """When a loop of experiments has come to its end; names and numbers from zero-operators, where they were sound."""

    stop_on_tier: str = "must_pass"
    """The tier that counts as the target."""
    max_iterations: int = 10
    """Runs that are over, however they ended: a loop that kills and tries again comes to its end too."""
    max_hours: float = 0.0
    """Training hours of all runs together; 0: no limit."""
    plateau_epsilon: float = 0.01
    """Improvement of the best value below which a run counts as none, as a share of that best value."""
    plateau_runs: int = 3
    """So many runs in a row without an improvement are a plateau."""
    dead_end_similarity: float = 0.9
    """Jaccard similarity of two hypotheses from which one is the other said again."""


@dataclass(frozen=True)
class Sweep:
    """When what is left of a sweep is not worth its hours."""

    stop_after_alike: int = 0
    """So many runs of one sweep must have failed alike before those that are left like them are asked to stop; at least
    2. 0: it is said, and nothing is stopped."""


PROMOTION = Promotion()
LOOP = Loop()
SWEEP = Sweep()

TABLES: dict[str, Any] = {"promotion": PROMOTION, "loop": LOOP, "sweep": SWEEP, "notify": NOTIFY}

WORDS = {"stop_on_tier": contract.TIERS, "min_severity": SEVERITIES}
