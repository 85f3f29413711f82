"""One number that makes every kill harder: at caution 2 a rule wants twice the evidence before it is certain.

It is the one-parameter family among which `checker calibrate` chooses. One number for all rules, since whoever picks
rules or limits one by one by looking at the runs, and then counts the same runs, has nothing left to promise. Only
limits that decide kills are scaled. The clock's rules are not: what happened between two rows of a recorded run is not
on record, so nothing could be fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from checker.detectors import RULES
from checker.finding import Action
from checker.judge import POLICY

GRID = (1.0, 1.2, 1.4, 1.7, 2.0, 2.4, 2.8, 3.4, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0, 32.0, 45.0, 64.0)
"""From the shipped limits up; finer near them, where most histories are decided.

Nothing below 1: a rate is what may be lost at most, not what is to be used up. Runs that ended well can only tell what
eagerness costs, never what it would have gained.
"""

Scale = Callable[[Any, float], Any]


def rounded(value: float) -> float:
    """Four digits, so that the limits that are judged are, to the last bit, those that stand in the file."""
    return float(f"{value:.4g}")


def _times(value: float, caution: float) -> float:
    """A multiple of something: of noise, of a gain, of a share of it."""
    return rounded(value * caution)


def _beyond_one(value: float, caution: float) -> float:
    """A ratio that is 1 when nothing is wrong: what lies beyond 1 is scaled."""
    return rounded(1 + (value - 1) * caution)


def _rows(value: int, caution: float) -> int:
    """Rows in a row."""
    return math.ceil(value * caution)


def _pairs(value: tuple[tuple[int, float], ...], caution: float) -> tuple[tuple[int, float], ...]:
    """The second of each pair, a multiple of noise; the first is a width."""
    return tuple((width, _times(times, caution)) for width, times in value)


SCALED: dict[str, dict[str, Scale]] = {
    "nonfinite": {"sure_rows": _rows, "doubtful_rows": _rows, "from_start_rows": _rows},
    "hidden_nan": {
        "nan_grad_rows": _rows,
        "nan_grad_sure_rows": _rows,
        "zero_rows": _rows,
        "frozen_rows": _rows,
        "frozen_share": _times,
    },
    "gradient_explosion": {"ratio": _beyond_one, "lost_share": _times, "over_best": _times, "loss_noises": _times},
    "explosion": {
        "times": _beyond_one,
        "val_times": _beyond_one,
        "unlearned_times": _beyond_one,
        "beyond_doubt": _beyond_one,
        "ranges": _times,
        "noises": _times,
    },
    "divergence": {
        "lost_share": _times,
        "over_best": _times,
        "lost_unscaled": _times,
        "alone_lost": _times,
        "scales": _pairs,
        "wanders": _times,
        "gained_wanders": _times,
        "far": _times,
        "excursions": _beyond_one,
    },
}

KILLERS = frozenset(name for name, policy in POLICY.items() if Action.KILL in (policy.sure[1], policy.suspect[1]))

KILLING = tuple(rule for rule in RULES if rule.name in KILLERS)

UNSCALED = KILLERS - SCALED.keys()
"""Rules that kill and are not fitted."""


def limits(caution: float) -> dict[str, Any]:
    """The limits of every scaled rule at this caution; none at 1, where all are as shipped."""
    if caution == 1:
        return {}
    shipped = {rule.name: rule.limits for rule in RULES}
    return {name: _scaled(shipped[name], scales, caution) for name, scales in SCALED.items() if name in shipped}


def _scaled(shipped: Any, scales: dict[str, Scale], caution: float) -> Any:
    return replace(shipped, **{name: scale(getattr(shipped, name), caution) for name, scale in scales.items()})
