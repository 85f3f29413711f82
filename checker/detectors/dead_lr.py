"""The learning rate is dead: zero, decayed too early, frozen, or never warmed up.

What it sees: a logged learning rate of exactly 0, or next to nothing compared with its highest value while most of
the plan is still ahead, or one that does not follow the schedule that `experiment.json` declares.

Why it matters: steps with no learning rate cost as much as others and change nothing. The loss looks converged, so
nobody notices; a scheduler stepped per batch instead of per epoch is the usual cause.

How it decides: zero for 10 rows and 2 % of the run with a loss that stopped improving, unless the declared plan is
nine tenths done. Below a thousandth of its top before half of the declared plan, or, where no plan is declared, below
a ten-thousandth for a fifth of the rows (15 of 66 in the zoo's tune split were found by nothing else). Constant over
a fifth of the plan although the declared schedule decays by then. Below a tenth of the declared peak after twice the
declared warm-up. A rate printed with two decimals reads 0.00 while the model learns: a loss that still falls
overrules a zero. Declared stages are judged one by one, each by its own schedule and length, and after a declared
change of regime the rates before it are no yardstick. In the zoo's tune and validate splits it named 112 of 112 dead
learning rates and none of 1,851 healthy runs.

What to do: make the schedule as long as the training (`decay_steps` = `steps`), step it once per optimizer step, and
keep a floor of a tenth of the peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from checker.finding import Grade, Sighting
from checker.history import History
from checker.names import LR
from checker.series import median


@dataclass(frozen=True)
class Limits:
    zero_rows: int = 10
    late: float = 0.9
    """Share of the plan after which a rate that becomes 0 is simply at the end of its schedule."""
    too_low: float = 1e-3
    """Of the highest rate so far: cosine schedules end at 0.1 to 0.01 of it."""
    unplanned: float = 1e-4
    unplanned_share: float = 0.2
    """Where no length is declared: so low for so large a share of the rows. A cosine spends 0.6 % of its way below
    1e-4 of its top, a decay by 0.9 per epoch over 100 epochs 13 %."""
    early: float = 0.5
    """Share of the plan before which such a low rate is too early."""
    frozen_share: float = 0.2
    """Share of the plan over which a declared decay must have moved the rate."""
    unwarmed: float = 0.1
    still_falls: float = 0.02
    """Relative fall of the loss that shows that something is being learned."""


LIMITS = Limits()


@dataclass(frozen=True)
class _Part:
    """What is declared for the part of the run under way: a stage of it, or all of it; and how far that is."""

    schedule: Mapping[str, Any]
    before: int
    """Steps before it."""
    steps: int | None
    """How many it has; None: nobody declared that."""
    progress: float | None
    block: int
    """The first one of the learning rate that is its own, and of this regime."""
    top: float


def _part(history: History) -> _Part:
    declared, lr, step = history.plan.experiment.schedule, history.lr, history.step
    stage = next((one for one in _stages(declared) if step is not None and one["first_step"] <= step), None)
    block = history.era(lr)
    if stage is None or step is None:
        return _Part(declared, 0, history.total_steps, history.progress, block, _top(history, block))
    before = stage["first_step"] - 1
    steps = max(stage["last_step"] - before, 1)
    own = next((i for i in range(len(lr.steps) - 1, -1, -1) if lr.steps[i] <= before), -1) + 1
    block = min(max(block, own), len(lr.levels) - 1)
    return _Part(stage, before, steps, (step - before) / steps, block, _top(history, block))


def _stages(declared: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The declared stages that say from where to where they go, the last one first."""
    found = declared.get("stages") if declared.get("kind") == "stages" else None
    usable = [
        one
        for one in (found if isinstance(found, list) else [])
        if isinstance(one, Mapping) and all(isinstance(one.get(key), int) for key in ("first_step", "last_step"))
    ]
    return usable[::-1]


def _top(history: History, block: int) -> float:
    lr = history.lr
    return history.lr_top if block <= 0 else max((*lr.levels[block:], lr.last))


def detect(history: History, limits: Limits) -> Sighting | None:
    """A dead learning rate, by the first of four signs."""
    if not history.lr.count:
        return None
    part = _part(history)
    found = _zero(history, part, limits)
    if found is not None or not len(history.lr.levels):  # no block yet since the run went back to its first step
        return found
    return _early(history, part, limits) or _frozen(history, part, limits) or _unwarmed(history, part, limits)


def _zero(history: History, part: _Part, limits: Limits) -> Sighting | None:
    zeros = history.zero[LR]
    progress = part.progress
    if zeros.count < limits.zero_rows:
        return None
    began = None if progress is None else progress * (zeros.first_row + 1) / (history.index + 1)
    if part.before and part.steps and zeros.first_step is not None:
        began = (zeros.first_step - part.before) / part.steps
    if began is not None and began >= limits.late:
        return None
    if _learns_since(history, zeros.first_row, limits):
        return None
    left = "" if progress is None else f", with {100 * (1 - progress):.0f} % of the plan still ahead"
    grade = Grade.SUSPECT if progress is None else Grade.SURE
    told = f"learning_rate has been 0 for {zeros.count} rows{left}"
    return _sighting(history, part, grade, zeros.first_row, zeros.first_step, told)


def _early(history: History, part: _Part, limits: Limits) -> Sighting | None:
    lr, progress = history.lr, part.progress
    low = (limits.unplanned if progress is None else limits.too_low) * part.top
    if low <= 0 or lr.level(3) >= low or (progress is not None and progress > limits.early):
        return None
    peak = max(range(part.block, len(lr.levels)), key=lr.levels.__getitem__)
    onset = next((i for i in range(peak, len(lr.levels)) if lr.levels[i] < low), None)
    if onset is None or _learns_since(history, lr.rows[onset], limits):
        return None
    lasted = history.index - lr.rows[onset]
    if progress is None and lasted < max(limits.zero_rows, limits.unplanned_share * history.index):
        return None
    share = lr.last / part.top
    since = f"for {lasted} rows" if progress is None else f"at {100 * progress:.0f} % of the plan"
    told = f"learning_rate fell to {lr.last:.3g} ({share:.2g} of its top) {since}"
    grade = Grade.SUSPECT if progress is None else Grade.SURE
    return _sighting(history, part, grade, lr.rows[onset], lr.steps[onset], told)


def _frozen(history: History, part: _Part, limits: Limits) -> Sighting | None:
    declared, total = part.schedule, part.steps
    if not total or declared.get("kind") not in ("cosine", "linear") or not len(history.lr.levels):
        return None
    lr, warm = history.lr, part.before + int(declared.get("warmup_steps") or 0)
    since = next((i for i in range(part.block, len(lr.steps)) if lr.steps[i] >= warm), None)
    if since is None or lr.steps[-1] - lr.steps[since] < limits.frozen_share * total:
        return None
    window = lr.levels[since:]
    if max(window) - min(window) > 1e-3 * max(window) or lr.last == 0.0:
        return None
    told = f"learning_rate has been {lr.last:.3g} since step {lr.steps[since]}; declared is a {declared['kind']} decay"
    return _sighting(history, part, Grade.SUSPECT, lr.rows[since], lr.steps[since], told)


def _unwarmed(history: History, part: _Part, limits: Limits) -> Sighting | None:
    declared = part.schedule
    peak, warm = float(declared.get("peak_lr") or 0.0), int(declared.get("warmup_steps") or 0)
    step = (history.step or 0) - part.before
    decay = int(declared.get("decay_steps") or part.steps or 0)
    if not peak or not warm or not 2 * warm < step < decay / 2 or part.top >= limits.unwarmed * peak:
        return None
    told = f"learning_rate never exceeded {part.top:.3g}; declared is a peak of {peak:.3g} after {warm} steps"
    row = history.lr.rows[part.block] if part.block > 0 else history.lr.first_row
    return _sighting(history, part, Grade.SUSPECT, row, history.lr.steps[max(part.block, 0)], told)


def _learns_since(history: History, row: int, limits: Limits) -> bool:
    train = history.train
    if len(train.levels) < 3:
        return False
    onset = train.block_at(row)
    block = onset + (len(train.levels) - 1 - onset) // 4  # a smoothed loss falls on for a while when nothing moves
    then = median(train.levels[max(0, block - 2) : block + 3])
    noise = 2 * train.spread()  # two medians of five each stay within it
    return then - train.level() > max(limits.still_falls * abs(then), noise)


def _sighting(history: History, part: _Part, grade: Grade, row: int, step: int | None, told: str) -> Sighting:
    progress = part.progress
    evidence = {"learning_rate": history.lr.last, "top": part.top, "train_loss": history.train.last}
    if progress is not None:
        evidence["plan_done"] = progress
    declared = {f"declared_{key}": value for key, value in part.schedule.items()}
    return Sighting(
        grade=grade,
        first_row=row,
        first_step=step,
        summary=told,
        evidence=evidence | declared,
        against=() if progress is not None else ("no planned length is declared: this may be the end of the schedule",),
    )
