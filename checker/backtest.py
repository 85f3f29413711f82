"""What the checker would have done to many recorded runs, and, where labels tell what they were, how often it is right.

A false kill is what matters: the rate of it comes with an exact interval, so that nobody takes none in thirty for zero.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import contract
from checker import pool, replay, source
from checker.finding import Action
from checker.judge import Case
from checker.limits import SHIPPED, InForce
from checker.names import TRAIN_LOSS
from checker.report import curve

HEALTHY = frozenset({"healthy", "spike_recovered"})
"""Labels of runs that must not be killed."""

UNSCORED = frozenset({"", "unclear"})

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcome:
    """One recorded run under the checker's rules."""

    path: str
    rows: int = 0
    alerts: tuple[str, ...] = ()
    """Rules that would have alerted."""
    rule: str | None = None
    """The rule that would have killed it; None for a run that would have been left alone."""
    row: int | None = None
    step: int | None = None
    reason: str = ""
    hours_saved: float = 0.0
    ended_well: bool = False
    """It was to be killed, and yet it went on to a better train loss than it had had."""
    label: str = ""
    onset_row: int | None = None
    error: str = ""

    @property
    def delay(self) -> int | None:
        """Rows from the labelled onset to the kill."""
        return None if self.row is None or self.onset_row is None else self.row - self.onset_row


def recorded(paths: Iterable[Path]) -> list[Path]:
    """Run folders and bare logs at or below `paths`, each once.

    Raises:
        ValueError: a path does not exist, or nothing at all was found.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
        found.update(dict.fromkeys(_below(path) if path.is_dir() else [path]))
    if not found:
        raise ValueError(f"{', '.join(map(str, paths))}: no run folders and no logs of a known format")
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders.sort()
        here = Path(where)
        if contract.METRICS in files or source.has_log(here):
            yield here
            folders.clear()
            continue
        for name in sorted({*files} - source.OWN):
            if source.may_be_log(name) and (name.endswith(".jsonl") or source.format_of(here / name) is not None):
                yield here / name


def read_labels(path: Path) -> dict[str, Mapping[str, Any]]:
    """Labels by run: a JSON object per line with `id` or `path`, `label`, and perhaps `onset_row`.

    Raises:
        ValueError: a line is not such an object; the message names it.
    """
    labels: dict[str, Mapping[str, Any]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            entry = contract.decode_object(line, f"{path}:{number}")
            name = entry.get("id") or entry.get("path")
            if not isinstance(name, str) or not isinstance(entry.get("label"), str):
                raise ValueError(f"{path}:{number}: a label needs id (or path) and label, both text")
            labels[Path(name).name.removesuffix(".jsonl")] = entry
    return labels


def judged(path: Path, label: Mapping[str, Any] | None = None, by: InForce = SHIPPED) -> Outcome:
    """The outcome of one recorded run; one that cannot be read is told, not dropped."""
    label = label or {}
    onset = label.get("onset_row")
    known = Outcome(str(path), label=str(label.get("label", "")), onset_row=onset if isinstance(onset, int) else None)
    try:
        case, rows, at_kill = _played(path, by)
    except (ValueError, OSError) as error:
        return replace(known, error=str(error))
    kill, history = case.kill, case.history
    alerts = sorted({finding.rule for finding in case.findings if finding.action is Action.ALERT})
    known = replace(known, rows=rows, alerts=tuple(alerts))
    if kill is None or at_kill is None:
        return known
    then, best = at_kill
    saved = (history.at - then) / 3600 if history.at is not None and then is not None else 0.0
    after = min(history.train.smooth(), default=math.inf)
    return replace(
        known,
        rule=kill.rule,
        row=kill.row,
        step=kill.step,
        reason=kill.summary,
        hours_saved=max(saved, 0.0),
        ended_well=math.isfinite(after) and after < best and history.bad_now(TRAIN_LOSS) is None,
    )


def _played(path: Path, by: InForce) -> tuple[Case, int, tuple[float | None, float] | None]:
    """The judged run, its rows, and clock and best train loss at the moment of the kill."""
    at_kill: list[tuple[float | None, float]] = []

    def watch(case: Case) -> None:
        if not at_kill and case.kill is not None:
            history = case.history
            at_kill.append((history.at, min(list(history.train.smooth()), default=math.inf)))

    found = replay.read(path, watch, by.limits, by.reading)
    return found.case, found.rows, at_kill[0] if at_kill else None


def run(
    files: Sequence[Path],
    labels: Mapping[str, Mapping[str, Any]],
    *,
    limits: Sequence[InForce] = (),
    jobs: int | None,
    tell: Callable[[], None],
) -> list[Outcome]:
    """Judges every file, on all cores, each by its limits or those shipped; `tell` is called after each."""
    known = [labels.get(file.name.removesuffix(".jsonl")) for file in files]
    return pool.spread(judged, files, known, limits or [SHIPPED] * len(files), jobs=jobs, tell=tell)


def draw(outcomes: Iterable[Outcome], folder: Path, limits: Mapping[str, InForce] | None = None) -> None:
    """Draws the curve of each run into `folder`, with what would have been said about it."""
    folder.mkdir(mode=0o775, parents=True, exist_ok=True)
    for number, outcome in enumerate(outcomes, 1):
        by = (limits or {}).get(outcome.path, SHIPPED)
        case = replay.read(Path(outcome.path), limits=by.limits, reading=by.reading).case
        name = f"{number:03d}-{Path(outcome.path).name.removesuffix('.jsonl')}.svg"
        kills = [finding for finding in case.findings if finding.action is Action.KILL]
        contract.replace(folder / name, curve.svg(case.history, kills).encode())


@dataclass(frozen=True)
class Backtest:
    """Many outcomes, counted."""

    outcomes: Sequence[Outcome]

    @property
    def readable(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not outcome.error]

    @property
    def kills(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.rule]

    def rules(self) -> list[tuple[str, int, int]]:
        """Rule, runs it would have killed, runs it would have alerted about."""
        kills = Counter(outcome.rule for outcome in self.kills)
        alerts = Counter(rule for outcome in self.outcomes for rule in outcome.alerts)
        return [(rule, kills[rule], alerts[rule]) for rule in sorted(alerts.keys() | {r for r in kills if r})]

    def classes(self) -> list[dict[str, Any]]:
        """One entry per label: how many runs, killed, alerted or killed, with intervals, and the delay of the kills."""
        names = sorted({outcome.label for outcome in self.readable} - UNSCORED)
        return [self._class(name, [outcome for outcome in self.readable if outcome.label == name]) for name in names]

    def _class(self, name: str, runs: Sequence[Outcome]) -> dict[str, Any]:
        killed = [outcome for outcome in runs if outcome.rule]
        seen = [outcome for outcome in runs if outcome.rule or outcome.alerts]
        delays = [(outcome.delay, outcome.rows) for outcome in killed if outcome.delay is not None]
        return {
            "label": name,
            "must_live": name in HEALTHY,
            "runs": len(runs),
            "killed": len(killed),
            "killed_interval": interval(len(killed), len(runs)),
            "seen": len(seen),
            "seen_interval": interval(len(seen), len(runs)),
            "delay_rows": median(delay for delay, _ in delays) if delays else None,
            "delay_share": median(delay / max(rows, 1) for delay, rows in delays) if delays else None,
        }

    def document(self) -> dict[str, Any]:
        return {
            "runs": len(self.outcomes),
            "unreadable": [asdict(outcome) for outcome in self.outcomes if outcome.error],
            "would_kill": len(self.kills),
            "would_alert": sum(bool(outcome.alerts) for outcome in self.outcomes),
            "hours_saved": sum(outcome.hours_saved for outcome in self.kills),
            "rules": [{"rule": rule, "kills": kills, "alerts": alerts} for rule, kills, alerts in self.rules()],
            "kills": [asdict(outcome) for outcome in self.kills],
            "kills_of_runs_that_ended_well": [outcome.path for outcome in self.kills if outcome.ended_well],
            "classes": self.classes(),
        }


def interval(hits: int, of: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact (Clopper-Pearson, 1934) confidence interval of a share of `hits` in `of`.

    Its ends are the shares at which so many or more, so few or fewer, hits have the probability (1 - confidence) / 2.
    """
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _share_at(lambda share: 1 - _at_most(hits - 1, of, share), tail)
    high = 1.0 if hits == of else _share_at(lambda share: 1 - _at_most(hits, of, share), 1 - tail)
    return low, high


def _at_most(hits: int, of: int, share: float) -> float:
    """The binomial probability of at most `hits` in `of`."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return float(hits >= of)
    logs = (
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(share)
        + (of - k) * math.log1p(-share)
        for k in range(hits + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))


def _share_at(rising: Callable[[float], float], target: float) -> float:
    """Where a function that rises from 0 to 1 over the shares reaches `target`, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2
