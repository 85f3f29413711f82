"""Which checkpoints stay: the newest, the best, and one of every so many steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.checkpoints.files import Saved, remove, saved


class Policy(NamedTuple):
    """How many stay; each rule for itself keeps what it keeps."""

    last: int = 2
    best: int = 1
    every: int = 0
    """Steps; 0: none."""
    direction: str = "min"
    """Of the primary metric."""


def superfluous(found: Sequence[Saved], policy: Policy) -> list[Saved]:
    """Those that no rule keeps, by the numbers of their steps; the newest is never among them."""
    newest = sorted(found, key=lambda one: one.step, reverse=True)
    kept = {one.step for one in newest[: max(policy.last, 1)]}
    sign = -1 if policy.direction == "max" else 1
    measured = [one for one in newest if one.value is not None and math.isfinite(one.value)]
    kept |= {one.step for one in sorted(measured, key=lambda one: (sign * (one.value or 0.0), one.step))[: policy.best]}
    if policy.every:
        kept |= {one.step for one in newest if one.step % policy.every == 0}
    return [one for one in reversed(newest) if one.step not in kept]


def prune(folder: Path, policy: Policy, *, newest: int | None = None) -> list[Saved]:
    """Removes what no rule keeps, and returns it.

    Args:
        folder: the run's.
        policy: the rules.
        newest: the step that was saved just now. Checkpoints of later steps are an earlier attempt's, which the run
            could not go on from: they count for no rule, and go.

    Raises:
        OSError: a file cannot be removed.
    """
    found = saved(folder)
    over = [one for one in found if newest is not None and one.step > newest]
    gone = [*superfluous([one for one in found if one not in over], policy), *over]
    for one in gone:
        remove(one)
    return gone
