"""From what rules see to what follows: patience, episodes, severity and action, as data.

A rule only says whether something is true now. Here it is written, once for all rules, how long it must stay true
before anything is said, how far the answer goes, and when a thing that went away may be reported again. Replaying the
same events gives the same effects: that is what `checker replay` is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from checker.detectors import RULES, Rule
from checker.events import Event, Plan, Row, Tick
from checker.finding import Action, Finding, Grade, Severity, Sighting
from checker.history import History


class Hold(NamedTuple):
    """How long a sighting must last: at least `rows` rows and `share` of the rows so far."""

    rows: int = 0
    share: float = 0.0

    def met(self, lasted: int, so_far: int) -> bool:
        return lasted >= max(self.rows, self.share * so_far)


@dataclass(frozen=True)
class Policy:
    """What follows from a rule's sightings."""

    suspect: tuple[Severity, Action] = (Severity.WARNING, Action.ALERT)
    sure: tuple[Severity, Action] = (Severity.WARNING, Action.ALERT)
    hold: Hold = Hold()
    """Before a suspicion is reported."""
    hold_sure: Hold = Hold()
    """Before certainty is reported and acted on."""
    rest: Hold = Hold(20, 0.1)
    """How long a thing must be gone before its return is a new episode."""
    row_ends: bool = False
    """A new row ends the episode: the rule is about silence."""

    def outcome(self, grade: Grade) -> tuple[Severity, Action]:
        if grade is Grade.NOTE:
            return _NOTE
        return self.sure if grade is Grade.SURE else self.suspect


_KILL = (Severity.CRITICAL, Action.KILL)
_NOTE = (Severity.INFO, Action.NONE)
_ALARM = (Severity.CRITICAL, Action.ALERT)

POLICY: dict[str, Policy] = {
    "nonfinite": Policy(sure=_KILL),
    "hidden_nan": Policy(sure=_KILL),
    # Level, not a single value, is already what these rules look at; the hold outlasts a spike that comes back.
    "explosion": Policy(sure=_KILL, hold_sure=Hold(2, 0.005)),
    "divergence": Policy(sure=_KILL, hold=Hold(1), hold_sure=Hold(2)),
    "gradient_explosion": Policy(sure=_KILL, hold=Hold(3, 0.0), hold_sure=Hold(3, 0.01)),
    "drift": Policy(hold=Hold(5, 0.02)),
    "oscillation": Policy(hold=Hold(10, 0.05)),
    "vanishing_gradient": Policy(hold=Hold(10, 0.02)),
    "overfit": Policy(sure=_ALARM, hold=Hold(2, 0.02), hold_sure=Hold(5, 0.05)),
    "plateau": Policy(hold=Hold(5, 0.05)),
    "dead_lr": Policy(sure=_ALARM, hold=Hold(3, 0.01), hold_sure=Hold(10, 0.02)),
    "loss_spike": Policy(suspect=_NOTE, sure=_NOTE),
    "suspicious_improvement": Policy(suspect=_NOTE, sure=_NOTE, hold=Hold(3, 0.01)),
    "throughput": Policy(hold=Hold(10, 0.02)),
    "stall": Policy(sure=_KILL, row_ends=True),
    "crash": Policy(suspect=_ALARM, sure=_ALARM, row_ends=True),
    "budget": Policy(sure=_KILL),
    "checkpoint_overdue": Policy(),
}


class Found(NamedTuple):
    """A finding to journal, report and, if it says so, act on."""

    finding: Finding


class Recovered(NamedTuple):
    """What a rule saw is over."""

    rule: str
    episode: int
    row: int
    run_id: str | None


Effect = Found | Recovered


@dataclass(slots=True)
class Episode:
    """One rule's memory between two looks."""

    number: int = 0
    since: int | None = None
    """The row since which the rule has been true without a break."""
    since_sure: int | None = None
    last_true: int = 0
    told: Severity | None = None
    """How much has been reported in this episode; None while nothing has."""
    onset: Sighting | None = None


@dataclass(slots=True)
class Case:
    """One run as the judge knows it."""

    history: History
    episodes: dict[str, Episode] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Limits other than a rule's own, by rule."""
    rules: Sequence[Rule] | None = None
    """The rules that are asked; None for all."""

    @classmethod
    def open(cls, plan: Plan | None = None, limits: Mapping[str, Any] | None = None) -> Case:
        return cls(History(plan), limits=limits or {})

    @property
    def kill(self) -> Finding | None:
        """The first finding that asks for a kill."""
        return next((finding for finding in self.findings if finding.action is Action.KILL), None)

    def open_findings(self) -> list[Finding]:
        """What is still true: the last word of every episode that is not over."""
        last = {finding.rule: finding for finding in self.findings}
        return [finding for rule, finding in last.items() if self.episodes[rule].told is not None]


def step(case: Case, event: Event) -> list[Effect]:
    """Folds one event into `case` and says what follows from it."""
    if not isinstance(event, Row):
        return step_all((case,), event)[0]
    history = case.history
    effects = [] if history.tick is None else _end_silence(case)
    history.tick = None  # a rule asked about a row must not see a clock that a replay does not have
    processes = history.restarts
    look = history.fold(event)
    if history.restarts != processes:
        _renumber(case)
    if look:
        effects += _look(case, _by_row)
    return effects


def step_all(cases: Sequence[Case], event: Event) -> list[list[Effect]]:
    """Folds one event into the history that all `cases` share, and says what follows from it in each of them.

    So a run is read once, however many limits it is judged by.
    """
    if isinstance(event, Tick):
        return [_on_tick(case, event) for case in cases]
    history = cases[0].history
    if not isinstance(event, Row):
        history.unreadable += 1
        return [[] for _ in cases]
    effects = [[] if history.tick is None else _end_silence(case) for case in cases]
    history.tick = None
    processes = history.restarts
    look = history.fold(event)
    resumed = history.restarts != processes
    for case, found in zip(cases, effects, strict=True):
        if resumed:
            _renumber(case)
        if look:
            found.extend(_look(case, _by_row))
    return effects


def _renumber(case: Case) -> None:
    """A new process begins new episodes."""
    case.episodes = {name: Episode(number=episode.number + 1) for name, episode in case.episodes.items()}


def _by_row(rule: Rule) -> bool:
    return not rule.on_tick


def _on_tick(case: Case, tick: Tick) -> list[Effect]:
    case.history.tick = tick
    before = {name: replace(episode) for name, episode in case.episodes.items()}
    effects = _look(case, lambda rule: rule.on_tick or (tick.final and rule.on_final))
    if not effects:
        # Only looks that led to something are journaled. The others must leave no trace, or a replay would differ.
        case.episodes = before
    return effects


def foresees(case: Case, tick: Tick) -> bool:
    """Whether a look at the clock like `tick` might say something new; the case stays as it is.

    When nothing new is foreseen for a look ahead of time in which nothing has moved, nobody has to look until then.
    """
    history = case.history
    now, history.tick = history.tick, tick
    try:
        return any(_news(case, rule) for rule in (RULES if case.rules is None else case.rules) if rule.on_tick)
    finally:
        history.tick = now


def _news(case: Case, rule: Rule) -> bool:
    limits = case.limits.get(rule.name, rule.limits)
    sighting, episode = rule.detect(case.history, limits), case.episodes.get(rule.name)
    told = None if episode is None else episode.told
    if sighting is None:
        return told is not None
    severity, _ = POLICY[rule.name].outcome(sighting.grade)
    return told is None or severity.rank > told.rank


def _end_silence(case: Case) -> list[Effect]:
    """A row ends every episode that was about silence; only a look at the clock can have begun one."""
    effects: list[Effect] = []
    for name, episode in case.episodes.items():
        if POLICY[name].row_ends and episode.told is not None:
            effects.append(_close(case, name, episode))
    return effects


def _look(case: Case, asked: Callable[[Any], bool]) -> list[Effect]:
    effects: list[Effect] = []
    history = case.history
    for rule in RULES if case.rules is None else case.rules:
        if asked(rule):
            name = rule.name
            sighting = rule.detect(history, case.limits.get(name, rule.limits))
            if sighting is not None or name in case.episodes:
                effects += _weigh(case, name, sighting)
    return effects


def _weigh(case: Case, name: str, sighting: Sighting | None) -> list[Effect]:
    episode = case.episodes.get(name)
    row = case.history.index
    if sighting is None:
        if episode is None or episode.since is None:
            return []
        return _absent(case, name, episode, row)
    if episode is None:
        episode = case.episodes[name] = Episode()
    policy = POLICY[name]
    if episode.since is None:
        episode.since, episode.onset = row, sighting
    sure = sighting.grade is Grade.SURE
    episode.since_sure = (row if episode.since_sure is None else episode.since_sure) if sure else None
    episode.last_true = row
    so_far = row + 1
    if sure and episode.since_sure is not None and policy.hold_sure.met(row - episode.since_sure, so_far):
        grade = Grade.SURE
    elif policy.hold.met(row - episode.since, so_far):
        grade = min(sighting.grade, Grade.SUSPECT)
    else:
        return []
    severity, action = policy.outcome(grade)
    if episode.told is not None and severity.rank <= episode.told.rank:
        return []
    episode.told = severity
    finding = _finding(case, name, episode, sighting, severity, action)
    case.findings.append(finding)
    return [Found(finding)]


def _absent(case: Case, name: str, episode: Episode, row: int) -> list[Effect]:
    if episode.told is None:
        episode.since = episode.since_sure = episode.onset = None
        return []
    episode.since_sure = None
    if POLICY[name].rest.met(row - episode.last_true, row + 1):
        return [_close(case, name, episode)]
    return []


def _close(case: Case, name: str, episode: Episode) -> Recovered:
    over = Recovered(name, episode.number, case.history.index, case.history.run_id)
    case.episodes[name] = Episode(number=episode.number + 1)
    return over


def _finding(
    case: Case, name: str, episode: Episode, sighting: Sighting, severity: Severity, action: Action
) -> Finding:
    onset = episode.onset or sighting
    first = min((onset, sighting), key=lambda seen: seen.first_row)
    return Finding(
        rule=name,
        severity=severity,
        action=action,
        row=case.history.index,
        step=case.history.step,
        first_row=first.first_row,
        first_step=first.first_step,
        summary=sighting.summary,
        evidence=sighting.evidence,
        against=sighting.against,
        run_id=case.history.run_id,
        episode=episode.number,
    )
