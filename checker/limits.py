"""Limits other than the shipped ones: a TOML file with `[limits.RULE]` and `name = value`; every fault is told.

It also says how logs are to be understood (`[columns]`, `[patterns]`) where they do not say it themselves.

The file lies as `checker.toml` in the watched folder, or is named with `--limits`. Nothing starts with half of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import contract
from checker import limits_check, reading_check, tomltext
from checker.alarms.policy import NOTIFY, Notify
from checker.caution import KILLERS
from checker.formats.format import PLAIN, Reading
from checker.formats.text import teach
from checker.judge import POLICY
from checker.limits_check import RULE, shipped
from checker.registry import policy

FILE = "checker.toml"

ABOVE = 2
"""Levels above a run folder from which a watch finds it: `watch.DEPTH`, without loading what a watch needs."""

MAX_SIZE = 1 << 20
"""Bytes. All limits there are take less than 10 KB."""

Limits = dict[str, Any]
"""A `Limits` by rule, for the rules whose limits are not the shipped ones."""


class LimitsError(ValueError):
    """A limits file that cannot be used; the message lists everything that is wrong with it, one fault per line."""


@dataclasses.dataclass(frozen=True)
class InForce:
    """The limits that a command judges by, and where they come from."""

    limits: Limits = dataclasses.field(default_factory=dict)
    path: Path | None = None
    """None for the shipped limits."""
    calibration: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What `checker calibrate` wrote about itself; empty for a file made by hand."""
    reading: Reading = PLAIN
    """How logs are to be understood where they do not say it themselves."""
    promotion: policy.Promotion = policy.PROMOTION
    loop: policy.Loop = policy.LOOP
    notify: Notify = NOTIFY
    sweep: policy.Sweep = policy.SWEEP

    def sentence(self) -> str:
        """Which limits these are; nothing about the shipped ones."""
        if self.path is None:
            return ""
        changed = sum(len(changes(rule, found)) for rule, found in self.limits.items())
        told = f"limits from {self.path}: {changed} {'differs' if changed == 1 else 'differ'} from the shipped ones"
        if not self.calibration:
            return told
        if self.calibration.get("rules") != rules_digest() or self.calibration.get("seal") != seal(self.limits):
            return f"{told}; fitted for other rules or edited since, so its promise is void: calibrate again"
        date, runs, rate = (self.calibration.get(name) for name in ("date", "runs", "false_kill_rate"))
        return f"{told}; fitted {date} to {runs} runs for a false kill rate of {rate}"


SHIPPED = InForce()


def in_force(place: Path, named: Path | None = None) -> InForce:
    """The limits for what lies at `place`: the `named` file, else the `checker.toml` of that folder, else the shipped.

    Raises:
        LimitsError: the file cannot be used.
    """
    if named is not None:
        return read(named)
    return read(place / FILE) if os.path.lexists(place / FILE) else SHIPPED


def in_force_above(run: Path, named: Path | None = None) -> InForce:
    """The same for one run: the nearest `checker.toml` in a folder from which a watch would find this run."""
    place = run.resolve()
    near = (above for above in (place, *place.parents[:ABOVE]) if os.path.lexists(above / FILE))
    return in_force(next(near, place), named)


def read(path: Path) -> InForce:
    """The limits in a file.

    Raises:
        LimitsError: it cannot be read, is no TOML, or names what does not exist or cannot be; with every fault.
    """
    text = _text(path)
    try:
        document = tomltext.document(text)
    except tomltext.NotToml as error:
        raise LimitsError(f"{path}:{error.line}: {error}") from None
    faults = [
        *limits_check.strange(document),
        *limits_check.faults(document.get("limits", {})),
        *limits_check.policy_faults(document),
        *reading_check.faults(document),
    ]
    if faults:
        known = tomltext.places(text)
        raise LimitsError("\n".join(f"{path}:{tomltext.line(known, where)}: {told}" for where, told in faults))
    tables = document.get("limits", {})
    given = {rule: limits_check.values(rule, table) for rule, table in tables.items()}
    limits = {rule: dataclasses.replace(shipped(rule), **values) for rule, values in given.items()}
    kept = {rule: found for rule, found in limits.items() if changes(rule, found)}
    reading = Reading(document.get("columns", {}), document.get("patterns", {}))
    teach(reading.patterns)  # before any folder is looked at, to find logs that only these make logs
    return InForce(kept, path, document.get("calibration", {}), reading, **_policies(document))


def _policies(document: Mapping[str, Any]) -> dict[str, Any]:
    """The policies as the document has them, by table."""
    found = {}
    for name, usual in policy.TABLES.items():
        table = document.get(name, {})
        values = {key: limits_check.policy_value(getattr(usual, key), value, key) for key, value in table.items()}
        found[name] = dataclasses.replace(usual, **values)
    return found


def _text(path: Path) -> str:
    try:
        # Whoever starts the checker has chosen this folder or this file: a link to limits shared by many is theirs.
        return contract.read_plain(os.path.realpath(path), MAX_SIZE)[0].decode("utf-8-sig")
    except contract.Unreadable:
        raise LimitsError(f"{path}: not a regular file of at most {MAX_SIZE:,} bytes") from None
    except UnicodeDecodeError as error:
        raise LimitsError(f"{path}: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise LimitsError(f"{path}: {error.strerror or error}") from None


def changes(rule: str, limits: Any) -> dict[str, Any]:
    """The fields of `limits` that are not as shipped."""
    fields = {field.name: getattr(limits, field.name) for field in dataclasses.fields(limits)}
    return {name: value for name, value in fields.items() if value != getattr(shipped(rule), name)}


def render(limits: Limits, calibration: Mapping[str, Any], head: str = "") -> str:
    """The file that `read` reads: its comments, the record of a calibration, and the limits that are not as shipped."""
    tables = {"calibration": dict(calibration)} if calibration else {}
    tables |= {f"limits.{rule}": changes(rule, found) for rule, found in limits.items()}
    parts = [f"# {line}\n" for line in head.splitlines()]
    for name, table in tables.items():
        if table:
            lines = (f"{key} = {tomltext.written(value)}\n" for key, value in table.items())
            parts.append(f"\n[{name}]\n{''.join(lines)}")
    return "".join(parts).lstrip("\n")


def seal(limits: Limits) -> str:
    """A digest of the limits of rules that kill: tells whether a file still holds what was fitted."""
    return _digest({rule: changes(rule, found) for rule, found in sorted(limits.items()) if rule in KILLERS})


def rules_digest() -> str:
    """A digest of the rules as shipped: a promise about other rules is worth nothing."""
    try:
        version = metadata.version("training-checker")
    except metadata.PackageNotFoundError:
        version = ""
    return _digest([version, {name: repr(rule.limits) for name, rule in RULE.items()}, repr(POLICY)])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
