"""A judged case becomes `diagnosis.md`, `curve.svg` and `next.md` in its run folder."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import contract
from checker import events, judge, mask, replay
from checker.finding import Finding
from checker.registry import ideas, planned, record
from checker.registry.catalog import entry_of
from checker.report import curve, explain, grounds, remedies, render, story
from checker.report.change import Suggestion

LISTED = 50
"""Other findings, and acts, that a page lists. A run has a handful; one that was begun ten thousand times, as many."""

_NOTHING = "Nothing is suggested yet: the run goes on and no rule has found a fault."


@dataclass(frozen=True)
class Item:
    """A suggestion as the templates show it."""

    id: str
    """Empty for what is done by hand: only a change of the configuration is an experiment of its own."""
    idea: str
    rationale: str
    effect: str
    toml: str
    tried: str = ""
    """What came of it; empty for what nobody has tried."""


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnosis.md.j2` shows, in finished strings."""

    name: str
    exp: str
    verdict: str
    narrative: str
    timeline: list[str]
    also: list[str]
    mechanism: list[str]
    unit: str
    evidence: list[grounds.Cell]
    caption: str
    curve: str
    against: list[str]
    blind: list[str]
    advice: list[str]
    suggestions: list[Item]
    by_hand: list[Item]


@dataclass(frozen=True)
class Next:
    """What `next.md.j2` shows."""

    title: bool
    remark: str
    suggestions: list[Item]
    by_hand_title: str
    by_hand: list[Item]
    nothing: str


def write(
    folder: Path,
    case: judge.Case,
    *,
    status: Mapping[str, Any] | None,
    experiment: contract.Experiment | None,
    acts: Sequence[Mapping[str, Any]],
    unreadable: Sequence[events.Unreadable],
) -> None:
    """Writes what there is to say about a run; a file whose text would stay the same is not touched.

    Args:
        folder: the run folder.
        case: the run as the judge knows it now.
        status: the document in the status file, None when there is none.
        experiment: the run's `experiment.json`, None when there is none.
        acts: the journaled acts, in order (`act`, `at` and what belongs to it).
        unreadable: lines of the log that could not be read; the first few are enough.

    Raises:
        OSError: the folder cannot be written.
    """
    experiment = experiment or contract.Experiment(id="", created_at="")
    state = story.state_of(status, acts)
    findings = story.ranked(case)
    faults = [finding for finding in findings if story.is_fault(finding)]
    old, odd = _read(folder / contract.NEXT)
    items: list[Item] = []
    done: list[Item] = []
    over = (state is not None and state.final) or case.history.ended or story.process_gone(case)
    if faults or over:
        items, done = _suggested(findings[:LISTED], experiment, case, old, folder)
    main = faults[0] if faults else None
    numbered, by_hand = [item for item in items if item.id], [item for item in items if not item.id]
    others = [finding for finding in findings if finding is not main]
    view = Diagnosis(
        name=mask.markdown(experiment.name or (status or {}).get("experiment_name") or folder.name, 80),
        exp=mask.markdown(experiment.id or folder.name, 80),
        verdict=story.verdict(case, main, state),
        narrative=story.narrative(case, status or {}, state),
        timeline=list(_timeline(main, case, acts)),
        also=[*_also(case, others), *story.callbacks(status or {})],
        mechanism=list(grounds.mechanism(case.history, main)),
        unit=story.unit_of(case.history),
        evidence=[*grounds.evidence(case.history, main, status or {}), *grounds.hung(main, folder)],
        caption=story.caption(case.history, main),
        curve=contract.CURVE,
        against=list(grounds.against(case.history, main, state)),
        blind=list(grounds.blind(replay.cannot_judge(case), unreadable, case.history.unreadable)),
        advice=_advice(main, items, over=over),
        suggestions=numbered,
        by_hand=by_hand,
    )
    render.put(folder / contract.CURVE, curve.svg(case.history, faults).encode())
    if odd is None and (items or done or planned.split(old)):
        following = Next(
            title=not planned.has_title(old),
            remark=planned.PROVISIONAL if items and not over else "",
            suggestions=[*numbered, *done],
            by_hand_title=f"{planned.heading(folder.name)}, by hand" if by_hand else "",
            by_hand=by_hand,
            nothing="" if items or done else _NOTHING,
        )
        render.put(folder / contract.NEXT, planned.marked(old, render.page("next.md.j2", following)))
    # The last one: whoever finds it newer than the run, as a restarted checker does, may count on the others.
    render.put(folder / contract.DIAGNOSIS, render.page("diagnosis.md.j2", view).encode())
    if odd is not None:
        raise odd


def _timeline(main: Finding | None, case: judge.Case, acts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """All acts, or those that are about the main finding where there are too many."""
    shown = acts
    if len(acts) > LISTED:
        shown = [act for act in acts if main is not None and act.get("finding") == main.id][:LISTED]
    yield from story.timeline(main, case.findings, shown)
    if len(shown) < len(acts):
        yield f"and {len(acts) - len(shown):,} more acts, all in `{contract.FINDINGS}`"


def _also(case: judge.Case, others: Sequence[Finding]) -> Iterator[str]:
    yield from story.also(case, others[:LISTED])
    if len(others) > LISTED:
        yield f"and {len(others) - LISTED:,} more findings, all in `{contract.FINDINGS}`"


def _read(path: Path) -> tuple[bytes, OSError | None]:
    """The `next.md` that there is, with what a person wrote there; or why nothing may take its place.

    It cannot be read, or it is a link, a pipe or huge.
    """
    try:
        return contract.read_plain(path)[0], None
    except FileNotFoundError:
        return b"", None
    except contract.Unreadable as error:
        return b"", OSError(errno.EINVAL, str(error).removeprefix(f"{path}: "), str(path))
    except OSError as error:
        return b"", error


def _items(suggestions: Sequence[Suggestion], old: bytes, parent: str) -> list[Item]:
    ideas = [mask.markdown(suggestion.idea, 300) for suggestion in suggestions]
    changes = [idea for idea, item in zip(ideas, suggestions, strict=True) if item.change]
    names = dict(zip(changes, planned.numbers(changes, old, parent), strict=True))
    return [
        Item(
            names.get(idea, ""),
            idea,
            mask.markdown(item.rationale, 400),
            mask.markdown(item.effect),
            planned.toml(item.change),
        )
        for idea, item in zip(ideas, suggestions, strict=True)
    ]


class _Trials:
    """Who has tried a change of this run's configuration already; looked for when it is first asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._known: ideas.Trials | None = None

    def of(self, change: Mapping[str, Any]) -> str | None:
        """The folder of the experiment that has tried it, or None."""
        if self._known is None:
            self._known = ideas.Trials.beside(self._folder)
        return self._known.of(str(self._folder), dict(record.flat(change)))


def _suggested(
    findings: Sequence[Finding], experiment: contract.Experiment, case: judge.Case, old: bytes, folder: Path
) -> tuple[list[Item], list[Item]]:
    """What to try next; and what was suggested here before and has been tried since, which keeps its name."""
    trials, known = _Trials(folder), planned.named(old, planned.heading(folder.name))
    fresh = remedies.suggest(findings, experiment, case.history, lambda change: trials.of(change) is not None)
    all_ = remedies.suggest(findings, experiment, case.history)
    done = [
        (item, trial)
        for item in all_
        if mask.markdown(item.idea, 300) in known and item.change and (trial := trials.of(item.change))
    ]
    items = _items([*fresh, *(item for item, _ in done)], old, planned.heading(folder.name))
    told = [replace(item, tried=_came_of(trial)) for item, (_, trial) in zip(items[len(fresh) :], done, strict=True)]
    return items[: len(fresh)], told


def _came_of(folder: str) -> str:
    """What has become of an experiment, in a few words."""
    entry = entry_of(folder)
    if entry is None:
        return "yes"
    return mask.markdown(", ".join(filter(None, (f"{entry.id}: {entry.standing}", entry.failure))))


def _advice(main: Finding | None, items: Sequence[Item], *, over: bool) -> list[str]:
    """What the rule itself says to do, and where the experiments stand."""
    told = []
    if main is not None and not story.of_fold(main):
        what = explain.paragraph(main.rule, "What to do")
        told.append(what[:1].upper() + what[1:])
    if not items:
        none = "None: no fault was found, and" if over else "None yet: no fault was found and the run is not over."
        return told or [f"{none} nothing that was measured points at a next experiment." if over else none]
    told.append(f"As experiments, with reasons and the change of the configuration, in `{contract.NEXT}`:")
    return told
