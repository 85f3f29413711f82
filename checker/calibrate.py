"""Limits fitted to a user's own history: past runs are played at every caution, the smallest that suffices is chosen.

What is promised, and by which theorem, stands in `conformal`; what caution is, in `caution`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import contract
from checker import backtest, caution, conformal, judge, pool, replay
from checker.history import History
from checker.names import TRAIN_LOSS, VAL_LOSS
from checker.series import Series
from checker.status import Status

UNREADABLE = "cannot be read"

STOPPED_BY_CHECKER = "stopped by the checker"

LOST, OVER_BEST = 0.5, 0.5
"""Of 158 healthy or recovered public runs none ended so; of 19 labelled as diverged all did."""

CONFIDENCE = 0.95
"""Of what is said about this very history, one-sided."""


@dataclass(frozen=True)
class Trial:
    """One past run at every caution of the grid."""

    path: str
    left_out: str = ""
    """Why it says nothing about runs that end well; empty for a run that counts."""
    killed: tuple[bool, ...] = ()
    """Whether it would have been killed, at each caution."""
    rule: str | None = None
    """Who would have killed it by the shipped limits."""
    row: int | None = None
    reason: str = ""
    last_rule: str | None = None
    """Who would still have killed it at the greatest caution."""
    rows: int = 0


class Refused(Exception):
    """No limits can keep this promise; one sentence says why, and what could be promised."""


@dataclass(frozen=True)
class Fit:
    """What follows from many trials for one rate.

    Raises:
        Refused: there are too few runs, or too many of them are killed whatever the caution.
    """

    trials: Sequence[Trial]
    rate: Fraction

    def __post_init__(self) -> None:
        if self.allowed < 0:
            raise Refused(self._too_few())
        if self._found is None:
            raise Refused(self._too_sick())

    @cached_property
    def used(self) -> list[Trial]:
        return [trial for trial in self.trials if not trial.left_out]

    @cached_property
    def scores(self) -> list[int]:
        return [conformal.score(trial.killed) for trial in self.used]

    @property
    def allowed(self) -> int:
        """How many of the runs used may be killed."""
        return conformal.allowed(len(self.used), self.rate)

    @cached_property
    def _found(self) -> int | None:
        return conformal.fit(self.scores, self.rate, len(caution.GRID))

    @property
    def place(self) -> int:
        """Where on the grid the chosen caution stands."""
        assert self._found is not None
        return self._found

    @property
    def caution(self) -> float:
        return caution.GRID[self.place]

    @property
    def limits(self) -> dict[str, Any]:
        return caution.limits(self.caution)

    @property
    def killed(self) -> int:
        """Runs used that count as killed under what was chosen."""
        return conformal.killed_at(self.scores, self.place)

    @property
    def ceiling(self) -> float:
        """What the rate is under, for this very history, with a confidence of 95 %.

        The rate at the chosen caution is distributed like Beta(allowed + 1, runs - allowed) or is smaller (Vovk 2012).
        The quantile of that is Clopper and Pearson's bound for as many kills as are allowed; with the kills that were
        counted it would be wrong, since the caution was chosen by them.
        """
        return backtest.interval(self.allowed, len(self.used), 2 * CONFIDENCE - 1)[1]

    def groups(self) -> list[tuple[str, list[Trial]]]:
        """The runs that were left out, by reason, the most frequent first."""
        reasons = {trial.left_out for trial in self.trials if trial.left_out}
        groups = [(reason, [trial for trial in self.trials if trial.left_out == reason]) for reason in sorted(reasons)]
        return sorted(groups, key=lambda group: -len(group[1]))

    def record(self, source: str, date: str) -> dict[str, Any]:
        """What the file says about how it was made."""
        return {
            "date": date,
            "source": source,
            "false_kill_rate": float(self.rate),
            "caution": self.caution,
            "runs": len(self.used),
            "runs_left_out": len(self.trials) - len(self.used),
            "killed_as_shipped": conformal.killed_at(self.scores, 0),
            "killed": self.killed,
            "rate_under_with_95_percent_confidence": float(rounded_up(Fraction(self.ceiling))),
        }

    def _too_few(self) -> str:
        runs, needed = len(self.used), conformal.needed(self.rate)
        can = f"; the smallest rate that {runs} can promise is {self.least(0)}" if runs else ""
        out = ", ".join(f"{len(trials)} {reason}" for reason, trials in self.groups())
        left_out = f" (left out: {out})" if out else ""
        return (
            f"{runs} run{'s' if runs != 1 else ''} that ended well{left_out}, and a false kill rate of "
            f"{rounded_up(self.rate)} needs {needed}: {needed - runs} more{can}"
        )

    def _too_sick(self) -> str:
        last = len(caution.GRID)
        stubborn = [trial for trial, score in zip(self.used, self.scores, strict=True) if score == last]
        rules = ", ".join(sorted({trial.last_rule or "" for trial in stubborn}))
        return (
            f"{len(stubborn)} of {len(self.used)} runs that ended well would be killed at any caution (by {rules}; for "
            f"one {stubborn[0].path}), and a false kill rate of {rounded_up(self.rate)} allows {self.allowed}: look "
            f"whether they did end well, and label them; {self.least(len(stubborn))} is what could be promised"
        )

    def least(self, killed: int) -> Decimal:
        """The smallest rate that could be promised if `killed` of the runs were killed."""
        return rounded_up(conformal.promisable(len(self.used), killed))


def rounded_up(rate: Fraction) -> Decimal:
    """Three digits, never less than `rate`: what can be promised must not be rounded into what cannot."""
    return Context(prec=3, rounding=ROUND_CEILING).divide(Decimal(rate.numerator), Decimal(rate.denominator))


def run(
    files: Sequence[Path],
    labels: Mapping[str, Mapping[str, Any]] | None,
    *,
    jobs: int | None,
    tell: Callable[[], None],
) -> list[Trial]:
    """Tries every file, on all cores; with `labels` those labelled as healthy count, whatever else is known of them."""
    known: list[str | None] = [None] * len(files)
    if labels is not None:
        entries = [labels.get(file.name.removesuffix(".jsonl"), {}) for file in files]
        known = [str(entry.get("label", "")) for entry in entries]
    return pool.spread(tried, files, known, jobs=jobs, tell=tell)


def tried(path: Path, label: str | None = None) -> Trial:
    """The trial of one recorded run; `label` is None where nobody labelled anything."""
    try:
        trial, history = _played(replay.Recording(path))
    except (ValueError, OSError) as error:
        return Trial(str(path), UNREADABLE, reason=str(error))
    trial = replace(trial, left_out=_empty(history) or (_why_not(path, history) if label is None else _unfit(label)))
    if label is not None and not trial.left_out and path.is_dir() and _state(path) == STOPPED_BY_CHECKER:
        # Its log ends at the kill and cannot show what more caution would have done, so none is taken to have helped.
        reason = f"{path}: labelled {label}, and stopped by the checker all the same"
        stopped = (True,) * len(caution.GRID)
        return replace(trial, killed=stopped, rule=None, reason=reason, last_rule="a kill that did happen")
    return trial


def _played(recording: replay.Recording) -> tuple[Trial, History]:
    """One pass over the file, judged at every caution at once by the rules that kill; others cannot change the answer.

    The first case asks no rule; it keeps the history going when all the others have been killed.
    """
    history = History(recording.plan)
    cases = [judge.Case(history, limits=limits, rules=caution.KILLING) for limits in _family()]
    live = [judge.Case(history, rules=()), *cases]
    for event in recording.events(history):
        if any(judge.step_all(live, event)):
            live = [case for case in live if case.kill is None]
    shipped, last = cases[0].kill, cases[-1].kill
    trial = Trial(
        str(recording.path),
        killed=tuple(case.kill is not None for case in cases),
        rule=shipped.rule if shipped else None,
        row=shipped.row if shipped else None,
        reason=shipped.summary if shipped else "",
        last_rule=last.rule if last else None,
        rows=recording.tail.rows,
    )
    return trial, history


@cache
def _family() -> list[dict[str, Any]]:
    return [caution.limits(one) for one in caution.GRID]


def _empty(history: History) -> str:
    seen = any(history.series[role].count for role in (TRAIN_LOSS, VAL_LOSS))
    return "" if seen else "without a loss"


def _unfit(label: str) -> str:
    if label in backtest.HEALTHY:
        return ""
    return f"labelled {label}" if label else "without a label"


def _why_not(path: Path, history: History) -> str:
    """Why a run that nobody labelled cannot be taken for one that ended well."""
    if path.is_dir() and (reason := _state(path)):
        return reason
    if any(history.bad_now(role) is not None for role in (TRAIN_LOSS, VAL_LOSS)):
        return "with a last loss that is no finite number"
    return "with a last train loss far above its best" if ended_far_up(history.train) else ""


def ended_far_up(train: Series) -> bool:
    """Whether a run ended where it must not be taken for one that ended well, whatever its status says.

    Half of what had been gained is lost, and the end lies half the best above it: how the public corpus defines a run
    that diverged. The same end is asked of every run, whether a rule would have killed it or not, so what is left is
    still exchangeable.
    """
    smooth = train.smooth()
    if not smooth:
        return False
    best, end = min(smooth), train.level()
    return end - best > LOST * max(train.start() - best, 0.0) and (best <= 0 or end > (1 + OVER_BEST) * best)


def _state(folder: Path) -> str:
    status = Status(folder)
    status.refresh()
    if status.problem:
        return "with a status that cannot be read"
    if status.state in (None, contract.State.COMPLETED):
        return ""
    if status.state is contract.State.KILLED:
        kill = status.document.get("kill")
        by = kill.get("requested_by") if isinstance(kill, Mapping) else None
        return STOPPED_BY_CHECKER if by == "checker" else "killed"
    return str(status.state) if status.state.final else "that never said they were over"
