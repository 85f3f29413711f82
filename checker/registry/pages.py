"""What the commands over experiments print, as lines of plain text; everything a run wrote is cleaned first."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import contract
from checker.clean import clean
from checker.registry import ideas
from checker.registry.catalog import Entry, mapping
from checker.registry.compare import Difference, Ranking
from checker.registry.files import hashes
from checker.registry.lineage import Family
from checker.registry.promotion import Check as GateCheck
from checker.registry.promotion import Gate, value_in
from checker.registry.record import Record, read
from checker.registry.verdict import EXIT, Answer
from checker.registry.verify import Check
from checker.wording import count

_NONE = "-"


def columns(rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """Rows as aligned lines, cut to `width`; the last column is not padded."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip()
        yield line if width is None or len(line) <= width else line[: width - 1] + "…"


def number(value: object) -> str:
    """A value as a table shows it: six digits of a number, anything else as it is written."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _NONE if value is None else clean(value, 60)
    return f"{value:.6g}"


def _gain(gain: float | None) -> str:
    return _NONE if gain is None else f"{gain:+.4g}" if gain else "0"


# ------------------------------------------------------------------------------------------------------------ list


def listed(entries: Sequence[Entry], width: int | None) -> Iterator[str]:
    """One line per experiment."""
    head = ("exp", "status", "parent", "metric", "Δ parent", "tier", "hypothesis", "shortfall or finding")
    yield from columns([head, *(_row(entry) for entry in entries)], width)


def _row(entry: Entry) -> tuple[str, ...]:
    metric = _NONE if entry.value is None else f"{clean(entry.metric, 24)}={entry.value:.5g}"
    found = entry.error or "; ".join(filter(None, (entry.remark, entry.finding or entry.failure or entry.shortfall)))
    return (
        clean(entry.id, 24),
        clean(entry.standing, 20),
        clean(entry.parent or _NONE, 24),
        metric,
        _gain(entry.gain),
        entry.tier or _NONE,
        clean(entry.hypothesis, 40) or _NONE,
        clean(found, 70) or _NONE,
    )


# ------------------------------------------------------------------------------------------------------------ show


def shown(entry: Entry, beside: Sequence[Entry]) -> Iterator[str]:
    """Everything there is to know about one experiment."""
    record, family = read(Path(entry.folder)), Family(beside)
    yield f"{clean(entry.id)}  {entry.status}{f'  promoted {_promoted(record)}' if record.promoted else ''}"
    facts = [
        ("folder", entry.folder),
        ("parent", entry.parent or ""),
        ("children", ", ".join(child.id for child in family.children(entry))),
        ("tags", ", ".join(entry.tags)),
        ("created", entry.created_at),
        ("hypothesis", entry.hypothesis),
        ("rationale", entry.rationale),
        ("metric", _metric(entry)),
        ("tier", entry.tier),
        ("finding", entry.finding),
        ("failure", entry.failure if entry.failure != entry.rule else ""),
        ("error", entry.error),
        ("note", entry.remark),
    ]
    yield from columns([(f"  {name}", clean(value)) for name, value in facts if value])
    yield from _section("shortfalls", (clean(item) for item in _texts(record.result.get("shortfalls"))))
    yield from _section("checkpoints and evaluations", _checkpoints(entry, record))
    plans = [idea for idea in ideas.plans(beside) if idea.origin.id == entry.id]
    yield from _section("next", (_idea(idea) for idea in plans))
    there = [name for name in _PAGES if os.path.isfile(record.folder / name)]
    yield from _section("to read", (str(Path(entry.folder, name)) for name in there))
    yield from _section("cannot be read", map(clean, record.faults))


_PAGES = (contract.HYPOTHESIS, contract.RESULT_PAGE, contract.DIAGNOSIS, contract.NEXT, contract.OUTPUT)


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield f"{title}:"
        yield from (f"  {line}" for line in found)


def _metric(entry: Entry) -> str:
    if not entry.metric:
        return ""
    way = "higher" if entry.direction == "max" else "lower"
    value = "never measured" if entry.value is None else f"= {entry.value:.6g}"
    than = "" if entry.gain is None else f", {_gain(entry.gain)} against {entry.parent} (+ is better)"
    return f"{entry.metric} {value} ({way} is better){than}"


def _promoted(record: Record) -> str:
    kept = record.promoted or {}
    return clean(f"{mapping(kept.get('checkpoint')).get('path')} at {kept.get('at')}")


def _idea(idea: ideas.Planned) -> str:
    tried = "" if idea.tried is None else f"  [tried as {idea.tried.id}: {idea.tried.standing}]"
    return clean(f"{idea.name}: {idea.text}{tried}")


def _checkpoints(entry: Entry, record: Record) -> Iterator[str]:
    """The checkpoints on disk, each with the evaluations of exactly that file."""
    known: dict[str, str] = {}
    for path in _sealed(record.folder / contract.CHECKPOINTS):
        try:
            sha256 = hashes(path)[0]
        except (contract.Unreadable, IndexError):
            yield clean(f"{contract.CHECKPOINTS}/{path.name}  (its hash cannot be read)")
            continue
        gone = "" if path.is_file() else "  (missing)"
        twin = f"  (the same as {known[sha256]})" if sha256 in known else ""
        yield clean(f"{contract.CHECKPOINTS}/{path.name}  {sha256[:12]}{gone}{twin}")
        for item in record.evaluations:
            if mapping(item.get("checkpoint")).get("sha256") == sha256 and not twin:
                yield f"  {_evaluation(entry, item)}"
        known.setdefault(sha256, path.name)
    for item in record.evaluations:
        if mapping(item.get("checkpoint")).get("sha256") not in known:
            yield clean(f"of an earlier {mapping(item.get('checkpoint')).get('path')}: {_evaluation(entry, item)}")


def _sealed(folder: Path) -> list[Path]:
    """The checkpoints that have a hash beside them; none where the folder cannot be listed."""
    try:
        return [path.with_suffix("") for path in sorted(folder.glob("*.sha256"))]
    except OSError:
        return []


def _evaluation(entry: Entry, item: Any) -> str:
    value = value_in(item, entry.metric)
    data = mapping(item.get("data")).get("name")
    return clean(f"{item.get('id')} on {data}: {entry.metric} {number(value)} ({item.get('at')})")


# ------------------------------------------------------------------------------------------------------------ diff


def compared(found: Difference, rank: Ranking | None) -> Iterator[str]:
    """What is different, and which settings matter among all runs of the folder."""
    one, other = clean(found.one.id), clean(found.other.id)
    rows = [(f"  {clean(key)}", number(before), number(after)) for key, (before, after) in found.config.items()]
    yield f"config: {count(len(found.config), 'difference')}"
    yield from columns([("", one, other), *rows] if rows else [])
    yield "metrics:"
    metrics = [
        (f"  {clean(item.name)}", number(item.one), number(item.other), _gain(item.gain)) for item in found.metrics
    ]
    yield from columns([("", one, other, f"{other} better by"), *metrics] if metrics else [("  none in common",)])
    for who, missed in zip((one, other), found.shortfalls, strict=True):
        yield from _section(f"only {who} falls short of", map(clean, missed))
    prints = [f"{key}: {number(before)} → {number(after)}" for key, (before, after) in found.prints.items()]
    yield from _section("not the same ground", iter(prints))
    if rank is not None:
        yield from _ranked(rank)


def _ranked(rank: Ranking) -> Iterator[str]:
    yield (
        f"what separates the best {len(rank.best)} from the worst {len(rank.worst)} runs of this folder "
        f"by {clean(rank.metric)}:"
    )
    if not rank.separators:
        yield "  nothing: no setting differs between the two groups"
        return
    rows = [
        (
            f"  {clean(item.key)}",
            number(item.one),
            number(item.other),
            f"{item.effect:.2f}",
            f"{item.chance:.2g}" + ("" if item.clear else "  could well be chance"),
        )
        for item in rank.separators
    ]
    yield from columns([("  setting", "best", "worst", "effect", "chance"), *rows])


# --------------------------------------------------------------------------------------------------------- lineage


def tree(entry: Entry, beside: Sequence[Entry]) -> Iterator[str]:
    """The line from the first ancestor, and below the experiment everything that came of it.

    An only child stands below its parent without an indent, so that a long line stays narrow.
    """
    family = Family(beside)
    line, broken = family.ancestors(entry)
    if broken:
        yield clean(broken)
    for number_, above in enumerate(reversed(line)):
        yield f"{'↓ ' if number_ else ''}{_brief(above)}"
    rails: list[str] = []
    for place in family.tree(entry):
        rails = rails[: max(0, place.depth - 1)]
        head, joint = "".join(rails), "↓ " if line or place.entry is not entry else ""
        if place.branch:
            joint = "└─ " if place.last else "├─ "
        if place.depth:
            rails.append("   " if place.last else "│  ")
            head = "".join(rails[:-1] if place.branch else rails)
        mark = "  ←" if place.entry is entry else ""
        yield f"{head}{joint}{_brief(place.entry)}{mark}"
        for told in _checkpoints(place.entry, read(Path(place.entry.folder))):
            yield f"{''.join(rails)}   · {told}"


def _brief(entry: Entry) -> str:
    metric = "" if entry.value is None else f"  {entry.metric}={entry.value:.5g}"
    gain = "" if entry.gain is None else f" ({_gain(entry.gain)})"
    return clean(f"{entry.id}  {entry.standing}{metric}{gain}  {entry.hypothesis[:60]}".rstrip(), 200)


# ----------------------------------------------------------------------------------------- verify, promote, verdict


def verified(entry: Entry, checks: Sequence[Check]) -> Iterator[str]:
    for check in checks:
        yield f"  {'ok ' if check.passed else 'BAD'}  {clean(check.artefact, 60)}: {clean(check.told)}"
    bad = sum(not check.passed for check in checks)
    passed = f"all {len(checks)} checks passed"
    yield f"{clean(entry.id)}: {f'{bad} of {len(checks)} checks failed' if bad else passed}"


def gated(found: Gate) -> Iterator[str]:
    """Every check with its numbers, then the sentences about what blocks."""
    head = ("  check", "actual", "baseline", "threshold", "passed", "source")
    yield from columns([head, *(_gate_row(check) for check in found.checks)])
    for blocker in found.blockers:
        yield f"blocked: {clean(blocker)}"


def _gate_row(check: GateCheck) -> tuple[str, ...]:
    cells = [_cell(value) for value in (check.actual, check.baseline, check.threshold)]
    return (f"  {check.name}", *cells, "yes" if check.passed else "NO", clean(check.source, 40))


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return clean(", ".join(f"{key} {str(item)[:12]}" for key, item in value.items() if item is not None), 40)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return number(value) if not isinstance(value, str) else clean(value, 30)


def judged(answer: Answer) -> Iterator[str]:
    yield f"{answer.verdict}: {clean(answer.reason)}"
    if answer.best is not None:
        yield f"best so far: {clean(answer.best)} with {number(answer.value)}"
    yield f"exit code {EXIT[answer.verdict]}"
