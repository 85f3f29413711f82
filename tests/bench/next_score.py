"""When a run has failed, when a change has healed it, and how often: decided once, before anything was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from next_train import Outcome
from scoring import Count

START = math.log(256)
"""The loss of a guess among 256 bytes: what every run can have for nothing. Whatever lies above counts as this, or the
gap to be closed would be the larger the worse the run blew up, and four fifths of it easily closed."""

WORSE = 0.1
"""Share of what the healthy base gains over a guess that a run must have missed to count as failed. Another seed of the
same base moves the loss by 1 to 2 % of that."""

CLOSED = 0.8
"""Share of the gap between the failed run and its base that must be closed: what is left is then no more than a fifth
of what the fault cost, and the base itself, whose settings nobody told the checker, is no bar to be met exactly."""


@dataclass(frozen=True)
class Tried:
    """One retraining."""

    change: str
    outcome: Outcome | None
    """None where nothing could be trained."""
    trouble: str = ""


@dataclass(frozen=True)
class Case:
    """A broken configuration, what became of it, and what became of it after each way to change it."""

    name: str
    fault: str
    base: Outcome
    run: Outcome
    rule: str = ""
    """What `next.md` is about: the finding that matters most."""
    tried: Mapping[str, Tried] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.harmed and bool(troubles(self.run) or self.run.alerts)

    @property
    def unnoticed(self) -> bool:
        return self.harmed and not self.failed

    @property
    def harmed(self) -> bool:
        return not troubles(self.base) and harmed(self.run, self.base)

    def healed(self, way: str) -> bool:
        found = self.tried[way].outcome
        return found is not None and healed(found, self.run, self.base)

    def why_not(self, way: str) -> str:
        """Why a way did not heal; empty where it did."""
        tried = self.tried[way]
        if tried.outcome is None:
            return tried.trouble
        closed = share_closed(tried.outcome, self.run, self.base)
        left = [] if closed >= CLOSED else [f"closes {100 * closed:.0f} % of the gap"]
        return ", ".join([*troubles(tried.outcome), *left])


def troubles(run: Outcome) -> list[str]:
    """What is wrong with a run by its own account and the checker's."""
    told = [f"stopped for {run.killed_by}"] if run.killed_by else []
    told += [] if run.state in ("completed", "killed") else [run.state]
    told += [rule for rule in run.open if rule != run.killed_by]
    return told + ([] if math.isfinite(run.loss) else ["no finite weights"])


def harmed(run: Outcome, base: Outcome) -> bool:
    """The outcome is clearly worse than the base's.

    Such a run has failed where the checker stopped it or alerted, or nothing finite is left. Where nobody said a word
    it is counted apart: its page suggests what comes next, but cannot know that anything is wrong.
    """
    return run.loss - base.loss >= WORSE * (START - base.loss)


def share_closed(again: Outcome, run: Outcome, base: Outcome) -> float:
    """How much of the gap between a failed run and its base a retraining has closed."""
    worst = min(run.loss, START)
    return (worst - min(again.loss, 10 * START)) / (worst - base.loss)


def healed(again: Outcome, run: Outcome, base: Outcome) -> bool:
    """The retrained run ends by itself, without an open warning, and close to its healthy base."""
    return not troubles(again) and share_closed(again, run, base) >= CLOSED


def count(cases: Iterable[Case], way: str) -> Count:
    hits = [case.healed(way) for case in cases]
    return Count(sum(hits), len(hits))


def by(cases: Sequence[Case], what: str) -> dict[str, list[Case]]:
    """Cases by an attribute, in the order in which its values first come."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(getattr(case, what), []).append(case)
    return groups
