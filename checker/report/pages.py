"""A judged case becomes `diagnosis.md`, `curve.svg` and `next.md` in its run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contract
from checker import events, judge, replay
from checker.finding import Finding
from checker.report import curve, explain, grounds, mask, planned, remedies, render, story
from checker.report.change import Suggestion

_NOTHING = "Nothing is suggested yet: the run goes on and no rule has found a fault."


@dataclass(frozen=True)
class Item:
    """A suggestion as the templates show it."""

    id: str
    idea: str
    rationale: str
    effect: str
    toml: str


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


@dataclass(frozen=True)
class Next:
    """What `next.md.j2` shows."""

    title: bool
    suggestions: list[Item]
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
    old = _read(folder / contract.NEXT)
    items: list[Item] = []
    if faults or (state is not None and state.final) or case.history.ended:
        items = _items(remedies.suggest(findings, experiment, case.history), old, folder.name)
    main = faults[0] if faults else None
    others = [finding for finding in findings if finding is not main]
    view = Diagnosis(
        name=mask.markdown(experiment.name or (status or {}).get("experiment_name") or folder.name, 80),
        exp=mask.markdown(experiment.id or folder.name, 80),
        verdict=story.verdict(case, main, state),
        narrative=story.narrative(case, status or {}, state),
        timeline=list(story.timeline(main, case.findings, acts)),
        also=list(story.also(case, others)),
        mechanism=list(grounds.mechanism(case.history, main)),
        unit=story.unit_of(case.history),
        evidence=[*grounds.evidence(case.history, main, status or {}), *grounds.hung(main, folder)],
        caption=story.caption(main),
        curve=contract.CURVE,
        against=list(grounds.against(case.history, main, state)),
        blind=list(grounds.blind(replay.cannot_judge(case), unreadable, case.history.unreadable)),
        advice=_advice(main, items),
        suggestions=items,
    )
    render.put(folder / contract.CURVE, curve.svg(case.history, faults).encode())
    render.put(folder / contract.DIAGNOSIS, render.page("diagnosis.md.j2", view).encode())
    if items or planned.split(old):
        page = render.page("next.md.j2", Next(not planned.has_title(old), items, "" if items else _NOTHING))
        render.put(folder / contract.NEXT, planned.marked(old, page))


def _read(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _items(suggestions: Sequence[Suggestion], old: bytes, parent: str) -> list[Item]:
    shown = [mask.markdown(suggestion.idea, 300) for suggestion in suggestions]
    return [
        Item(number, idea, mask.markdown(item.rationale, 400), mask.markdown(item.effect), planned.toml(item.change))
        for number, idea, item in zip(planned.numbers(shown, old, parent), shown, suggestions, strict=True)
    ]


def _advice(main: Finding | None, items: Sequence[Item]) -> list[str]:
    """What the rule itself says to do, and where the experiments stand."""
    told = []
    if main is not None:
        what = explain.paragraph(main.rule, "What to do")
        told.append(what[:1].upper() + what[1:])
    if not items:
        return told or ["None yet: no fault was found and the run is not over."]
    told.append(f"As experiments, with reasons and the change of the configuration, in `{contract.NEXT}`:")
    return told
