"""Verdicts counted: false stops and false words among the runs that must live, recall and delay among the sick ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

from contest import Verdict
from labelled import HARD, MUST_LIVE, QUIET, SOFT, Run, programs

from checker.backtest import interval

EARLY = 0.05
"""A share of the run. Labelled onsets are not exact, and trouble often begins a little before what the label names."""


class Count(NamedTuple):
    """Hits among some runs."""

    hits: int
    of: int

    def __str__(self) -> str:
        if not self.of:
            return "-"
        return f"{self.hits}/{self.of} {100 * self.hits / self.of:.1f} %"

    def exact(self) -> str:
        """With the exact 95 % interval of the share."""
        if not self.of:
            return "-"
        low, high = interval(self.hits, self.of)
        return f"{self} [{100 * low:.1f}, {100 * high:.1f}]"


@dataclass(frozen=True)
class Score:
    """One tool on one group."""

    false_stops: Count
    false_words: Count
    """Quiet runs about which anything was said, stop or alert."""
    programs_stopped: Count
    """Programs with a false stop, among those with must-live runs."""
    programs_named: Count
    hard_stopped: Count
    hard_seen: Count
    hard_by_program: float | None
    """The mean over programs of the share of hard faults seen: sick runs come in families."""
    soft_seen: Count
    delay: float | None
    """Median, from the labelled onset of a hard fault to the first word, as a share of the run."""
    stop_delay: float | None
    """The same to the stop."""
    before: int
    """Hard faults whose first word came more than EARLY before the onset: found by luck or by zeal."""


def score(verdicts: Mapping[str, Verdict], runs: Sequence[Run], rows: Mapping[str, int]) -> Score:
    live, quiet, hard, soft = (_of(runs, labels) for labels in (MUST_LIVE, QUIET, HARD, SOFT))
    delays, stops = (_delays(verdicts, hard, rows, what) for what in ("seen", "stop"))
    return Score(
        false_stops=stopped(verdicts, live),
        false_words=seen(verdicts, quiet),
        programs_stopped=_programs(live, {run.id for run in live if verdicts[run.id].stop is not None}),
        programs_named=_programs(quiet, {run.id for run in quiet if verdicts[run.id].seen is not None}),
        hard_stopped=stopped(verdicts, hard),
        hard_seen=seen(verdicts, hard),
        hard_by_program=_by_program(verdicts, hard),
        soft_seen=seen(verdicts, soft),
        delay=median(delays) if delays else None,
        stop_delay=median(stops) if stops else None,
        before=sum(delay < -EARLY for delay in delays),
    )


def classes(verdicts: Mapping[str, Verdict], runs: Sequence[Run], rows: Mapping[str, int]) -> list[tuple[str, ...]]:
    """One line per label for one tool: label, runs, stopped, seen, median delays in % of the run."""
    lines = []
    for label in sorted({run.label for run in runs}, key=_order):
        of = [run for run in runs if run.label == label]
        late = [percent(_delays(verdicts, of, rows, what)) for what in ("stop", "seen")]
        lines.append((label, str(len(of)), stopped(verdicts, of).exact(), seen(verdicts, of).exact(), *late))
    return lines


def percent(shares: Sequence[float]) -> str:
    return f"{100 * median(shares):z.1f} %" if shares else "-"


def _order(label: str) -> tuple[int, str]:
    return next((i for i, labels in enumerate((MUST_LIVE, HARD, SOFT)) if label in labels), 3), label


def stopped(verdicts: Mapping[str, Verdict], runs: Iterable[Run]) -> Count:
    hits = [verdicts[run.id].stop is not None for run in runs]
    return Count(sum(hits), len(hits))


def seen(verdicts: Mapping[str, Verdict], runs: Iterable[Run]) -> Count:
    hits = [verdicts[run.id].seen is not None for run in runs]
    return Count(sum(hits), len(hits))


def _of(runs: Sequence[Run], labels: frozenset[str]) -> list[Run]:
    return [run for run in runs if run.label in labels]


def _programs(runs: Sequence[Run], hit: set[str]) -> Count:
    shares = [any(run.id in hit for run in members) for members in programs(runs).values()]
    return Count(sum(shares), len(shares))


def _by_program(verdicts: Mapping[str, Verdict], runs: Sequence[Run]) -> float | None:
    counts = [seen(verdicts, members) for members in programs(runs).values()]
    return fmean(count.hits / count.of for count in counts) if counts else None


def _delays(verdicts: Mapping[str, Verdict], runs: Sequence[Run], rows: Mapping[str, int], what: str) -> list[float]:
    """From onset to the stop, or to the first word, as shares of the runs; only where both are known."""
    found = []
    for run in runs:
        at = getattr(verdicts[run.id], what)
        if at is not None and run.onset is not None and rows[run.id]:
            found.append((at - run.onset) / rows[run.id])
    return found
