"""May this checkpoint be trusted? Every check with what was found, what it was held against, and where that stands.

A checkpoint is promoted, never a run: it must be whole, come from a completed run, have been evaluated as it is, and
reach the floor. What blocks it is a sentence. The record lies in `promotions.jsonl` and can be revoked; nothing in it
is ever deleted.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import contract
from checker import rows
from checker.registry.catalog import Entry, mapping
from checker.registry.files import digest, hashes
from checker.registry.files import inside as contains
from checker.registry.lineage import Family
from checker.registry.policy import Promotion
from checker.registry.record import Document, Record, read


class Check(NamedTuple):
    """One condition: `actual` is what was found, `baseline` what it is compared with, `threshold` what is asked."""

    name: str
    actual: Any
    baseline: Any
    threshold: Any
    passed: bool
    source: str
    blocker: str
    """Why it is not passed, as a sentence; what passes says nothing."""


@dataclass(frozen=True)
class Gate:
    """The answer, with everything that it rests on."""

    experiment: str
    checkpoint: Document
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def blockers(self) -> list[str]:
        return [check.blocker for check in self.checks if not check.passed]

    def document(self) -> Document:
        return {
            "experiment_id": self.experiment,
            "checkpoint": self.checkpoint,
            "passed": self.passed,
            "blockers": self.blockers,
            "checks": [check._asdict() for check in self.checks],
        }


def gate(entry: Entry, beside: Sequence[Entry], name: str, policy: Promotion, now: float | None = None) -> Gate:
    """Whether checkpoint `name` (`best`, `last`, or a path in the folder) of an experiment may be promoted.

    Args:
        entry: the experiment.
        beside: all experiments of its folder.
        name: the checkpoint.
        policy: what is asked.
        now: seconds since 1970; the clock when not given.
    """
    record = read(Path(entry.folder))
    path, inside = _place(record.folder, name)
    sha256 = digest(record.folder / path) if inside else None
    evaluated = [item for item in record.evaluations if mapping(item.get("checkpoint")).get("sha256") == sha256]
    about = _About(
        entry, record, policy, path, sha256, evaluated if sha256 else [], time.time() if now is None else now
    )
    checks = [*_run(about), *_whole(about), *_evaluated(about), *_fingerprints(about), *_floor(about)]
    checks += [*_better(about, beside), *_dwell(about)]
    step = mapping(evaluated[-1].get("checkpoint")).get("step") if sha256 and evaluated else None
    return Gate(entry.id, {"path": path, "sha256": sha256, "step": step}, tuple(checks))


def _place(folder: Path, name: str) -> tuple[str, bool]:
    """Where a checkpoint lies in its folder, and whether it does: another experiment's is none of this one's."""
    if name in ("best", "last"):
        name = f"{contract.CHECKPOINTS}/{name}.pt"
        return name, contains(folder, name) is not None
    home = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(home, name))
    inside = real.startswith(home + os.sep)
    return (Path(os.path.relpath(real, home)).as_posix() if inside else name), inside


@dataclass(frozen=True)
class _About:
    """What the checks look at."""

    entry: Entry
    record: Record
    policy: Promotion
    path: str
    sha256: str | None
    evaluations: Sequence[Document]
    """Those of exactly this checkpoint."""
    now: float

    @property
    def value(self) -> float | None:
        """The primary metric in the newest evaluation."""
        return value_in(self.evaluations[-1], self.entry.metric) if self.evaluations else None


def value_in(evaluation: Mapping[str, Any], metric: str) -> float | None:
    return contract.number_in(mapping(evaluation.get("metrics")).get(metric))


def _check(name: str, actual: Any, source: str, blocker: str, **against: Any) -> Check:
    """A check that is passed when there is no blocker."""
    return Check(name, actual, against.get("baseline"), against.get("threshold"), not blocker, source, blocker)


def _run(about: _About) -> Iterator[Check]:
    state = about.entry.status
    done = state == contract.State.COMPLETED
    blocker = "" if done else f"{about.entry.id} is {state}: only a completed run can be promoted."
    yield _check("run completed", state, contract.STATUS, blocker, threshold="completed")
    rule, said = about.entry.rule, about.entry.finding
    judged = (about.record.folder / contract.DIAGNOSIS).is_file()
    blocker = f"The checker's finding is not over: {said}." if about.entry.failure and rule else ""
    if not judged:
        blocker = f"No checker has judged the run yet: checker once {about.record.folder.parent}."
    found = rule or ("none" if judged else None)
    yield _check("no critical finding", found, contract.FINDINGS, blocker, threshold="none")
    result = mapping(about.record.result.get("primary_metric"))
    value = contract.number_in(result.get("value"))
    blocker = "" if value is not None and math.isfinite(value) else f"There is no finite result in {contract.RESULT}."
    yield _check("result", result.get("value"), contract.RESULT, blocker, threshold="a finite number")


def _whole(about: _About) -> Iterator[Check]:
    sidecar = Path(f"{about.path}.sha256")
    try:
        known = hashes(about.record.folder / about.path) if about.sha256 else []
    except contract.Unreadable:
        known = []
    told = mapping(about.record.result.get("checkpoint"))  # another program's result may vouch for its checkpoint
    if told.get("path") == about.path and isinstance(told.get("sha256"), str):
        known = known or [told["sha256"]]
    blocker = ""
    if about.sha256 is None:
        blocker = f"There is no checkpoint {about.path} in {about.entry.name}, or it cannot be read."
    elif not known:
        blocker = f"{about.path} has no hash, beside it or in {contract.RESULT}: nobody can tell whether it is whole."
    elif about.sha256 not in known:
        blocker = f"{about.path} is damaged or was replaced: its SHA-256 is not the one in {sidecar.name}."
    short = [digest[:12] for digest in known]
    found = about.sha256[:12] if about.sha256 else None
    yield _check("checkpoint whole", found, sidecar.name, blocker, threshold=", ".join(short) or None)


def _evaluated(about: _About) -> Iterator[Check]:
    asked = about.policy.min_evaluations
    values = [value_in(item, about.entry.metric) for item in about.evaluations]
    good = sum(value is not None and math.isfinite(value) for value in values)
    blocker = ""
    if good < asked:
        others = len(about.record.evaluations) - len(about.evaluations)
        more = f" ({others} of other or earlier checkpoints do not count)" if others else ""
        blocker = (
            f"{about.path} has {good} evaluation{'' if good == 1 else 's'} with a finite "
            f"{about.entry.metric or 'metric (none is declared)'}, asked "
            f"{'is' if asked == 1 else 'are'} {asked}{more}: trainer eval {about.entry.id}."
        )
    yield _check("evaluations", good, contract.EVALUATIONS, blocker, threshold=asked)
    if values and values[-1] is not None and not math.isfinite(values[-1]):
        told = f"The newest evaluation found {about.entry.metric} to be {values[-1]}."
        yield _check("evaluation finite", values[-1], contract.EVALUATIONS, told, threshold="a finite number")


def _fingerprints(about: _About) -> Iterator[Check]:
    """What was asked for, what ran and what was evaluated must be one and the same."""
    experiment = about.record.experiment
    asked = mapping(experiment.get("fingerprints"))
    config = contract.config_hash(about.record.config) if experiment else None
    blocker = ""
    if not asked.get("config"):
        blocker = f"{contract.EXPERIMENT} holds no fingerprint of its config, so nobody can tell what was asked for."
    elif config != asked["config"]:
        blocker = f"The config in {contract.EXPERIMENT} was edited after its creation."
    yield _check("config as created", config, contract.EXPERIMENT, blocker, baseline=asked.get("config"))
    ran = mapping(about.record.result.get("fingerprints"))
    for part in ("config", "code", "data"):
        blocker = ""
        if ran.get(part) is None:
            blocker = f"{contract.RESULT} does not say with which {part} it was made." if asked.get(part) else ""
        elif asked.get(part) and ran[part] != asked[part]:
            blocker = f"The run was made with another {part} than the experiment was created for."
        yield _check(f"{part} of the run", ran.get(part), contract.RESULT, blocker, baseline=asked.get(part))
    for item in about.evaluations:
        yield from _evaluation(about, item, {"config": config, "code": ran.get("code")})


def _evaluation(about: _About, item: Document, ran: Mapping[str, Any]) -> Iterator[Check]:
    """An evaluation must be of this experiment, by its metric, with the config and the code of the run."""
    name, metric = f"Evaluation {item.get('id')}", mapping(item.get("metric"))
    used = mapping(item.get("fingerprints"))
    known = {
        "experiment": (item.get("experiment_id"), about.entry.id, f"{name} is about another experiment."),
        "metric": (metric.get("name"), about.entry.metric, f"{name} was made for another metric."),
        "direction": (metric.get("direction"), about.entry.direction, f"{name} takes better for worse."),
        "code": (
            used.get("code"),
            ran["code"],
            f"{name} was made with other code than the run.",
        ),
    }
    found = {what: row for what, row in known.items() if row[0] is not None and row[1] and row[0] != row[1]}
    if used.get("config") != ran["config"]:
        told = f"{name} was made with another config than the experiment has."
        found["config"] = (used.get("config"), ran["config"], told)
    for what, (actual, asked, told) in found.items():
        yield _check(f"{what} of the evaluation", actual, contract.EVALUATIONS, told, baseline=asked)


def _floor(about: _About) -> Iterator[Check]:
    limit = contract.number_in(mapping(about.record.experiment.get("tiers")).get("must_pass"))
    if limit is None:
        return
    metric, value = about.entry.metric, about.value
    blocker = ""
    if value is None or not math.isfinite(value) or contract.gain(value, limit, about.entry.direction) < 0:
        found = "was never evaluated" if value is None else f"is {value:.6g} in the evaluation"
        blocker = f"{metric} {found}, the floor (must_pass) is {limit:.6g}."
    yield _check("floor", value, contract.EVALUATIONS, blocker, threshold=limit)


def _better(about: _About, beside: Sequence[Entry]) -> Iterator[Check]:
    """Against the nearest promoted ancestor, else the parent, on the same data."""
    rival = _rival(about, beside)
    if rival is None:
        return
    who, record = rival
    value, data = about.value, mapping(about.evaluations[-1].get("data")) if about.evaluations else {}
    theirs = [item for item in record.evaluations if mapping(item.get("data")).get("hash") == data.get("hash")]
    promoted = mapping((record.promoted or {}).get("checkpoint")).get("sha256")
    theirs = [item for item in theirs if mapping(item.get("checkpoint")).get("sha256") == promoted] or theirs
    baseline = value_in(theirs[-1], about.entry.metric) if theirs else None
    source = f"{who.name}/{contract.EVALUATIONS}"
    if value is None or baseline is None or not (math.isfinite(value) and math.isfinite(baseline)):
        blocker = _no_rival(about, who, data)
        yield _check("better than its baseline", None, source, blocker, threshold=about.policy.min_gain)
        return
    found = contract.gain(value, baseline, about.entry.direction)
    blocker = ""
    if found < about.policy.min_gain:
        way = "better" if found > 0 else "worse" if found < 0 else "no better"
        by = f"{abs(found):.4g} " if found else ""
        blocker = (
            f"{about.entry.metric} {value:.6g} is {by}{way} than that of {who.id} ({baseline:.6g}); asked is a gain of "
            f"at least {about.policy.min_gain:g}."
        )
    yield _check("better than its baseline", found, source, blocker, baseline=baseline, threshold=about.policy.min_gain)


def _no_rival(about: _About, who: Entry, data: Mapping[str, Any]) -> str:
    """Whose evaluation is missing for a comparison, as a sentence."""
    if about.value is None or not math.isfinite(about.value):
        return f"There is nothing to compare with {who.id}: {about.entry.id} has no finite evaluation of its own."
    name = data.get("name")
    on = "" if name == "validation" else f" --data {name}"
    return f"There is nothing to compare with: {who.id} has no evaluation on {name}; trainer eval {who.id}{on}."


def _rival(about: _About, beside: Sequence[Entry]) -> tuple[Entry, Record] | None:
    line, _ = Family(beside).ancestors(about.entry)
    known = [(entry, read(Path(entry.folder))) for entry in line]
    promoted = next(((entry, record) for entry, record in known if record.promoted), None)
    if promoted is not None:
        return promoted
    return known[0] if known and known[0][0].status == contract.State.COMPLETED else None


def _dwell(about: _About) -> Iterator[Check]:
    asked = about.policy.min_dwell_minutes
    if not asked:
        return
    times = [at for item in about.evaluations if (at := rows.seconds(item.get("at"))) is not None]
    waited = (about.now - min(times)) / 60 if times else 0.0
    blocker = ""
    if waited < asked:
        blocker = f"It was first evaluated {waited:.3g} minutes ago; it has to wait {asked:g} minutes."
    yield _check("dwell time in minutes", round(waited, 1), contract.EVALUATIONS, blocker, threshold=asked)


# --------------------------------------------------------------------------------------------------------- records


def promote(entry: Entry, found: Gate) -> Document:
    """Writes down that the checkpoint is promoted, with every check; nothing where it is promoted already.

    Raises:
        OSError: the folder cannot be written.
    """
    kept = read(Path(entry.folder)).promoted
    if kept is not None and mapping(kept.get("checkpoint")).get("sha256") == found.checkpoint["sha256"]:
        return kept
    return _append(entry, {"kind": "promoted", **found.document()})


def revoke(entry: Entry, reason: str) -> Document | None:
    """Takes the promotion back, with the reason; None when there is none in force.

    Raises:
        OSError: the folder cannot be written.
    """
    kept = read(Path(entry.folder)).promoted
    if kept is None:
        return None
    return _append(entry, {"kind": "revoked", "checkpoint": kept.get("checkpoint"), "reason": reason})


def _append(entry: Entry, content: Document) -> Document:
    document = {"v": contract.FORMAT, "at": contract.now(), **content}
    contract.append_line(Path(entry.folder) / contract.PROMOTIONS, document, sync=True, follow=False)
    return document
