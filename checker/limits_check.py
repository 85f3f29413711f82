"""What is wrong with a table of limits: every fault, with its place, the value, and what would be right."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from checker.detectors import RULES
from checker.registry import policy
from checker.tomltext import written

TABLES = ("limits", "calibration", "columns", "patterns", *policy.TABLES)

RULE = {rule.name: rule for rule in RULES}

Fault = tuple[tuple[str, ...], str]
"""Where in the document, and what is wrong there."""


def shipped(rule: str) -> Any:
    """The limits that a rule comes with."""
    return RULE[rule].limits


def strange(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Top-level keys that are none, and known ones that are no tables."""
    for name, value in document.items():
        if name not in TABLES:
            hint = f"; did you mean [limits.{name}]?" if name in RULE else _hint(name, TABLES)
            yield (name,), f"{name}: there is no such table{hint}"
        elif not isinstance(value, dict):
            yield (name,), f"{name} = {_short(value)}: must be a table, [{name}{'.RULE' if name == 'limits' else ''}]"


def faults(tables: Any) -> Iterator[Fault]:
    """What is wrong below `[limits]`."""
    if not isinstance(tables, dict):
        return
    for rule, table in tables.items():
        where = ("limits", rule)
        if rule not in RULE:
            yield where, f"{'.'.join(where)}: there is no such rule{_hint(rule, RULE)}"
        elif not isinstance(table, dict):
            yield where, f"{'.'.join(where)} = {_short(table)}: must be a table, [limits.{rule}]"
        else:
            yield from _table_faults(rule, table)


def _table_faults(rule: str, table: Mapping[str, Any]) -> Iterator[Fault]:
    names = [field.name for field in dataclasses.fields(shipped(rule))]
    for name, value in table.items():
        where = ("limits", rule, name)
        told = f"{'.'.join(where)} = {_short(value)}"
        if name not in names:
            yield where, f"{told}: there is no such limit{_hint(name, names)}"
            continue
        try:
            _taken(value, getattr(shipped(rule), name), name)
        except ValueError as error:
            yield where, f"{told}: {error}"


def policy_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong below the tables of policies."""
    for table, usual in policy.TABLES.items():
        found = document.get(table)
        for name, value in found.items() if isinstance(found, dict) else ():
            told = f"{table}.{name} = {_short(value)}"
            names = [field.name for field in dataclasses.fields(usual)]
            try:
                if name not in names:
                    raise ValueError(f"there is no such key{_hint(name, names)}")  # noqa: TRY301 - told like the rest
                policy_value(getattr(usual, name), value, name)
            except ValueError as error:
                yield (table, name), f"{told}: {error}"


def policy_value(usual: Any, value: Any, name: str) -> Any:
    """`value` as the kind of thing that the `usual` one is.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(usual, str):
        if value not in policy.WORDS[name]:
            raise ValueError(f"must be one of {', '.join(policy.WORDS[name])}")
        return value
    if name == "stop_after_alike" and value == 1:
        raise ValueError("must be 0 (never) or at least 2: one run is like no other")
    return _taken(value, usual, name)


def values(rule: str, table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _taken(value, getattr(shipped(rule), name), name) for name, value in table.items()}


def _taken(value: Any, usual: Any, name: str) -> Any:
    """`value` as the kind of thing that the `usual` value is.

    Raises:
        ValueError: it is something else, or a number with which no rule could work.
    """
    if isinstance(usual, tuple):
        return _row(value, usual, name)
    if isinstance(usual, bool):
        if value is not True and value is not False:
            raise ValueError(f"must be true or false, like the shipped {written(usual)}")
        return value
    if isinstance(usual, int):
        return _whole(value, usual, name)
    if isinstance(usual, float):
        return _number(value, usual)
    raise ValueError("cannot be set in a file")


def _row(value: Any, usual: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """A list: of as many pairs as there may be where the shipped one is a list of pairs, else of the same length."""
    pairs = bool(usual) and isinstance(usual[0], tuple)
    if not isinstance(value, list) or not value or (not pairs and len(value) != len(usual)):
        raise ValueError(f"must be a list like the shipped {written(usual)}")
    kinds = [usual[0]] * len(value) if pairs else usual
    return tuple(_taken(item, kind, name) for item, kind in zip(value, kinds, strict=True))


def _whole(value: Any, usual: int, name: str) -> int:
    # With fewer values than it ships with, a rule has no level or no spread to stand on.
    least = usual if name.startswith("min_") else min(usual, 1)
    if type(value) is not int or not least <= value <= 1e9:
        raise ValueError(f"must be a whole number from {least} to 1,000,000,000 (shipped: {usual})")
    return value


def _number(value: Any, usual: float) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"must be a number (shipped: {written(usual)})")
    if not 0 <= value <= 1e12:
        raise ValueError(f"must be a finite number from 0 to 1e12 (shipped: {written(usual)})")
    return float(value)


def _hint(name: str, among: Iterable[str]) -> str:
    known = list(among)
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(known)}"


def _short(value: object) -> str:
    text = written(value)
    return text if len(text) <= 60 else text[:59] + "…"
