"""Should a loop of experiments go on? One word for a script, and the reason for a person.

Upstream counted completed runs only, so a loop that kills and tries again never came to its end; here every run counts
that is over, however it ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import contract
from checker.registry import ideas
from checker.registry.catalog import UNKNOWN, Entry, mapping
from checker.registry.policy import Loop
from checker.registry.record import core_of, read


class Verdict(StrEnum):
    """In the order of precedence."""

    TARGET_HIT = "TARGET_HIT"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    PLATEAU = "PLATEAU"
    DEAD_END = "DEAD_END"
    CONTINUE = "CONTINUE"


EXIT = {
    Verdict.CONTINUE: 0,
    Verdict.TARGET_HIT: 10,
    Verdict.BUDGET_EXHAUSTED: 11,
    Verdict.PLATEAU: 12,
    Verdict.DEAD_END: 13,
}
"""Exit codes, so that `while checker verdict DIR; do …; done` is a loop; 1 and 2 mean that something went wrong."""


class Answer(NamedTuple):
    verdict: Verdict
    reason: str
    runs: int
    """Runs that are over."""
    best: str | None
    """The experiment with the best value."""
    value: float | None


def judge(entries: Sequence[Entry], policy: Loop) -> Answer:
    """The verdict over all experiments of a folder.

    Values are compared among the runs that are judged by the metric of the newest one.
    """
    over = sorted((entry for entry in entries if entry.over), key=_age)
    metric = over[-1].metric if over else ""
    compared = [entry for entry in over if entry.metric == metric]
    best = _best(compared)
    reasons: dict[Verdict, Callable[[], str]] = {
        Verdict.TARGET_HIT: lambda: _target(over, policy),
        Verdict.BUDGET_EXHAUSTED: lambda: _budget(over, policy),
        Verdict.PLATEAU: lambda: _plateau(compared, policy),
        Verdict.DEAD_END: lambda: _dead_end(over, entries, policy),
        Verdict.CONTINUE: lambda: f"{len(over)} of {policy.max_iterations} runs are over; nothing says stop.",
    }
    verdict, reason = next((verdict, told) for verdict, reason in reasons.items() if (told := reason()))
    return Answer(verdict, reason, len(over), best.id if best else None, best.value if best else None)


def _age(entry: Entry) -> str:
    """When it was created; entries without a time keep their order by coming first."""
    return entry.created_at


def _best(entries: Sequence[Entry]) -> Entry | None:
    known = [entry for entry in entries if entry.value is not None and math.isfinite(entry.value)]
    if not known:
        return None
    sign = 1 if known[-1].direction == "max" else -1
    return max(known, key=lambda entry: sign * (entry.value or 0.0))


def _target(over: Sequence[Entry], policy: Loop) -> str:
    asked = contract.TIERS.index(policy.stop_on_tier)
    for entry in over:
        done = entry.status == contract.State.COMPLETED
        if done and entry.tier in contract.TIERS and contract.TIERS.index(entry.tier) >= asked:
            return f"{entry.id} reached {entry.tier} with {entry.metric} {entry.value:g}."
    return ""


def _budget(over: Sequence[Entry], policy: Loop) -> str:
    if len(over) >= policy.max_iterations:
        ends = sorted({entry.status for entry in over})
        each = ", ".join(f"{sum(entry.status == end for entry in over)} {end}" for end in ends)
        return f"{len(over)} runs are over ({each}); the policy allows {policy.max_iterations}."
    if policy.max_hours:
        spent = sum(_hours(entry) for entry in over)
        if spent >= policy.max_hours:
            return f"The runs took {spent:.3g} hours; the policy allows {policy.max_hours:g}."
    return ""


def _hours(entry: Entry) -> float:
    """How long a run trained, from its status: the wall time of its last attempt."""
    seconds = contract.number_in(mapping(read(Path(entry.folder)).status).get("wall_time_seconds"))
    return seconds / 3600 if seconds is not None and math.isfinite(seconds) else 0.0


def _plateau(compared: Sequence[Entry], policy: Loop) -> str:
    """None of the last runs has improved the best value of those before by more than epsilon of it."""
    recent, before = compared[-policy.plateau_runs :], _best(compared[: -policy.plateau_runs])
    if before is None or before.value is None or len(recent) < policy.plateau_runs:
        return ""
    after = _best(recent)
    if after is not None and after.value is not None:
        better = contract.gain(after.value, before.value, before.direction)
        if better > policy.plateau_epsilon * abs(before.value):
            return ""
    return (
        f"None of the last {policy.plateau_runs} runs has improved on {before.metric} {before.value:g} of {before.id} "
        f"by more than {policy.plateau_epsilon:.2%}."
    )


def _dead_end(over: Sequence[Entry], entries: Sequence[Entry], policy: Loop) -> str:
    """The newest run said again what an earlier one had said, or nothing is planned that was not tried."""
    if not over:
        return ""
    newest = over[-1]
    earlier = [entry for entry in over[:-1] if entry.hypothesis]
    earlier = [entry for entry in earlier if _may_be_one(newest, entry)]
    found = ideas.repeated(newest, earlier) if newest.hypothesis else None
    if found is not None and found[1] >= policy.dead_end_similarity:
        return f"{newest.id} tried what {found[0].id} had tried: their hypotheses are {found[1]:.0%} alike."
    if any(entry.status in (contract.State.PENDING, contract.State.RUNNING, UNKNOWN) for entry in entries):
        return ""
    plans = [idea for idea in ideas.plans(entries) if not idea.by_hand]
    if plans and all(idea.tried is not None for idea in plans):
        return f"All {len(plans)} planned ideas have been tried."
    return ""


def _may_be_one(entry: Entry, other: Entry) -> bool:
    """Whether two experiments may have done the same: not when both have a configuration, and these differ."""
    cores = {core_of(entry.folder), core_of(other.folder)}
    return None in cores or len(cores) == 1


def document(answer: Answer) -> dict[str, Any]:
    """The answer for programs."""
    return {**answer._asdict(), "verdict": str(answer.verdict), "exit_code": EXIT[answer.verdict]}
