"""The run has used up what it was given.

What it sees: wall-clock minutes, steps or tokens beyond the `budget` that `experiment.json` declares.

Why it matters: a budget is a promise to others who share the machine, and the only thing that ends a run which is
healthy and endless.

How it decides: the clock since this process started training, the last step and the last count of tokens (a metric
called `tokens`, `num_input_tokens_seen` and the like), against the declared numbers. The run is asked to stop and saves
itself, so it can be resumed with a larger budget.

What to do: raise `budget.wall_minutes`, `budget.steps` or `budget.tokens` and resume, or plan fewer steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Grade, Sighting
from checker.history import History


@dataclass(frozen=True)
class Limits:
    slack: float = 0.0
    """Share of the budget that may be exceeded; a budget is exact unless its owner says otherwise."""


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    """A budget that is used up, at the last tick."""
    tick, budget = history.tick, history.plan.experiment.budget
    if tick is None or not budget or tick.state not in ("pending", "running"):
        return None
    started = tick.started_at if tick.started_at is not None else history.started_at
    spent_seconds = tick.now - started if started is not None else 0.0
    if tick.age is not None:  # a clock that was set forward uses up nobody's budget
        spent_seconds = min(spent_seconds, tick.age)
    used = {
        "wall_minutes": spent_seconds / 60,
        "steps": float(history.step if tick.step is None else tick.step or 0) if history.step is not None else 0.0,
        "tokens": history.tokens,
    }
    for name, spent in used.items():
        allowed = budget.get(name)
        if allowed and spent > allowed * (1 + limits.slack):
            return Sighting(
                grade=Grade.SURE,
                first_row=max(history.index, 0),
                first_step=history.step,
                summary=f"{spent:.4g} {name.replace('_', ' ')} used of {allowed:.4g} allowed",
                evidence={"budget": name, "used": spent, "allowed": allowed},
            )
    return None
