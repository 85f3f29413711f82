"""Is `result.json` the result that was asked for? Every mismatch is listed; without certainty nothing is accepted.

Standard library only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import RESULT, State, Unreadable, number_in
from trainer.document import read_object

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Mismatch:
    """One thing that is not as it was asked for."""

    field: str
    expected: object
    actual: object
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: expected {_short(self.expected)}, found {_short(self.actual)}: {self.reason}"


@dataclass(frozen=True)
class Result:
    """What a program says it has come to."""

    value: float | None = None
    secondary: Mapping[str, float] = field(default_factory=dict)
    checkpoint: dict[str, Any] | None = None
    failure: str | None = None
    """Why it failed; None of a completed run."""


def accepted(spec: Document) -> tuple[Result | None, list[Mismatch]]:
    """The result of the run that `spec` was handed to, or all that is wrong with it."""
    path = Path(spec["result_path"])
    try:
        document = read_object(path)
    except FileNotFoundError:
        return None, [Mismatch(RESULT, "a file", None, "the program has not written it")]
    except (Unreadable, OSError) as error:
        return None, [Mismatch(RESULT, "one JSON object", None, str(error))]
    found = list(_mismatches(document, spec))
    return (None if found else _taken(document, Path(spec["folder"]))), found


def _mismatches(document: Document, spec: Document) -> Iterator[Mismatch]:
    for name in ("experiment_id", "run_id"):
        if document.get(name) != spec[name]:
            yield Mismatch(name, spec[name], document.get(name), "the result belongs to another run")
    yield from _fingerprints(document.get("fingerprints"), spec["fingerprints"])
    yield from _status(document)
    yield from _metric(document.get("primary_metric"), spec["metric"], failed=document.get("status") == State.FAILED)
    yield from _secondary(document.get("secondary_metrics"))
    yield from _checkpoint(document.get("checkpoint"), Path(spec["folder"]))


def _fingerprints(actual: object, expected: Document) -> Iterator[Mismatch]:
    found = actual if isinstance(actual, Mapping) else {}
    for name in ("config", "data"):
        if name in expected and _hash(found.get(name)) != _hash(expected[name]):
            reason = f"the result was made with another {name}, or does not say with which"
            yield Mismatch(f"fingerprints.{name}", _hash(expected[name]), _hash(found.get(name)), reason)


def _hash(value: object) -> object:
    """A fingerprint of data has its hash beside other facts, and a program may give the hash alone."""
    return value.get("hash") if isinstance(value, Mapping) else value


def _status(document: Document) -> Iterator[Mismatch]:
    status, why = document.get("status"), document.get("failure_reason")
    if status not in (State.COMPLETED, State.FAILED):
        yield Mismatch("status", "completed or failed", status, "no other status is a result")
        if why is not None and not isinstance(why, str):
            yield Mismatch("failure_reason", "a text or null", why, "it says why a run failed")
    elif status == State.COMPLETED and why is not None:
        yield Mismatch("failure_reason", None, why, "a completed run has no reason to have failed")
    elif status == State.FAILED and not (isinstance(why, str) and why.strip()):
        yield Mismatch("failure_reason", "a text", why, "a failed run says why")


def _metric(metric: object, expected: Document, *, failed: bool) -> Iterator[Mismatch]:
    if metric is None and failed:
        return
    if not isinstance(metric, Mapping):
        yield Mismatch("primary_metric", "an object", metric, "it holds name, direction and value")
        return
    if metric.get("name") != expected["name"]:
        yield Mismatch("primary_metric.name", expected["name"], metric.get("name"), "another metric was measured")
    if "direction" in metric and metric["direction"] != expected["direction"]:
        reason = "better would be taken for worse"
        yield Mismatch("primary_metric.direction", expected["direction"], metric["direction"], reason)
    value = metric.get("value")
    if number_in(value) is None and not (failed and value is None):
        reason = 'only "NaN", "Infinity" and "-Infinity" may be spelled out; other texts, true and null are none'
        yield Mismatch("primary_metric.value", "a number", value, reason)


def _secondary(metrics: object) -> Iterator[Mismatch]:
    if metrics is None:
        return
    if not isinstance(metrics, Mapping):
        yield Mismatch("secondary_metrics", "an object", metrics, "it holds a number for each name")
        return
    for name, value in metrics.items():
        if number_in(value) is None:
            yield Mismatch(f"secondary_metrics.{name}", "a number", value, "leave out what was not measured")


def _checkpoint(checkpoint: object, folder: Path) -> Iterator[Mismatch]:
    if checkpoint is None:
        return
    found = checkpoint if isinstance(checkpoint, Mapping) else {"path": checkpoint}
    named, sha256, step = found.get("path"), found.get("sha256"), found.get("step")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
        yield Mismatch("checkpoint.step", "a whole number", step, "leave it out where there are no steps")
    if not isinstance(named, str) or not _is_name(named):
        yield Mismatch("checkpoint.path", "a path", named, "give it relative to the experiment's folder")
        return
    path = _real(folder / named)
    if not path.is_relative_to(_real(folder)):
        yield Mismatch("checkpoint.path", f"inside {folder}", named, "what lies elsewhere may be changed by other runs")
    elif not os.path.isfile(path):
        yield Mismatch("checkpoint.path", "an existing file", named, "there is no regular file of that name")
    elif sha256 is not None:
        yield from _content(path, sha256)


def _is_name(text: str) -> bool:
    """Whether a file system can be asked for it at all."""
    try:
        return bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _real(path: Path) -> Path:
    """Where a path leads, links followed; also when nothing is there, or the name is too long for anything to be."""
    return Path(os.path.realpath(path))


def _content(path: Path, sha256: object) -> Iterator[Mismatch]:
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        yield Mismatch("checkpoint.sha256", sha256, None, f"the checkpoint cannot be read ({error.strerror})")
        return
    if actual != sha256:
        yield Mismatch("checkpoint.sha256", sha256, actual, "the checkpoint is not the one that was measured")


def _taken(document: Document, folder: Path) -> Result:
    metric = document.get("primary_metric") or {}
    checkpoint = document.get("checkpoint")
    described = None
    if checkpoint is not None:
        told = dict(checkpoint) if isinstance(checkpoint, Mapping) else {"path": checkpoint}
        described = {key: told[key] for key in ("path", "sha256", "step") if told.get(key) is not None}
        described["path"] = _real(folder / told["path"]).relative_to(_real(folder)).as_posix()
    secondary = {name: number_in(value) for name, value in (document.get("secondary_metrics") or {}).items()}
    return Result(
        value=number_in(metric.get("value")),
        secondary={name: value for name, value in secondary.items() if value is not None},
        checkpoint=described,
        failure=document.get("failure_reason"),
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
