"""Runs of one sweep that fail the same way: what to say about them, and what of the rest is like them.

Values in, values out. What is said about several runs rests on all of them: a sibling that goes well with the same
setting speaks against that setting, and a run of which nothing is known speaks for nothing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from statistics import median
from typing import Any, NamedTuple

from checker import mask, wording
from contract import Setting, State, is_setting_number, same_setting

LEAST = 3
"""Runs that must have failed alike before it is said: two of a sweep may do so by accident."""

_ALPHA = 0.05
"""A setting for which runs are stopped must tell the failed from the sound ones better than chance would."""

_MOST = 3
"""Settings that are named; more tell no more."""

_NO_FAILURE = frozenset({"budget"})
"""Rules that end a run in which nothing is wrong."""

_NAMED = 60
"""Characters of a value in a sentence."""


class Stand(StrEnum):
    """What a run says about its siblings."""

    FAILED = "failed"
    SOUND = "sound"
    OPEN = "open"
    """It may still become either."""
    SILENT = "silent"
    """It ended some other way: a person stopped it, it failed differently, it has not begun."""


class Sibling(NamedTuple):
    """One run of a sweep."""

    name: str
    status: str
    failure: str = ""
    """What runs that fail the same way have in common."""
    rule: str = ""
    """The rule that has something to say about it now."""
    step: int | None = None


class Shared(NamedTuple):
    """A setting that all failed runs have and no sound one."""

    setting: Setting
    others: str
    """What the sound ones have instead."""
    chance: float
    """How often some setting would part random groups of these sizes as well."""

    @property
    def clear(self) -> bool:
        return self.chance <= _ALPHA


class Alike(NamedTuple):
    """The runs of one sweep that failed one way, and how their siblings stand."""

    failure: str
    failed: tuple[str, ...]
    sound: tuple[str, ...]
    open: tuple[str, ...]
    begun: int
    """Runs of the sweep that have been begun."""
    shared: tuple[Shared, ...] = ()


def groups(siblings: Sequence[Sibling], least: int = LEAST) -> list[Alike]:
    """The ways in which at least so many runs of one sweep have failed, the most frequent first."""
    failed: dict[str, list[Sibling]] = defaultdict(list)
    for one in siblings:
        if one.failure and one.rule not in _NO_FAILURE:
            failed[one.failure].append(one)
    found = [_group(failure, members, siblings) for failure, members in failed.items() if len(members) >= least]
    return sorted(found, key=lambda group: -len(group.failed))


def _group(failure: str, members: Sequence[Sibling], siblings: Sequence[Sibling]) -> Alike:
    steps = [one.step for one in members if one.step is not None]
    far = median(steps) if steps else math.inf
    stands: dict[Stand, list[str]] = defaultdict(list)
    for one in siblings:
        stands[_stand(one, failure, far)].append(one.name)
    return Alike(
        failure,
        failed=tuple(one.name for one in members),
        sound=tuple(stands[Stand.SOUND]),
        open=tuple(stands[Stand.OPEN]),
        begun=sum(one.status != State.PENDING or bool(one.failure) for one in siblings),
    )


def _stand(one: Sibling, failure: str, far: float) -> Stand:
    """How a run stands to a failure.

    One that goes on counts as sound once it has come further than half of those that failed, without a word against it.
    """
    if one.failure == failure:
        return Stand.FAILED
    if one.status == State.COMPLETED and not one.failure:
        return Stand.SOUND
    if one.status != State.RUNNING or one.failure:
        return Stand.SILENT
    return Stand.SOUND if one.step is not None and one.step > far and not one.rule else Stand.OPEN


# -------------------------------------------------------------------------------------------- what they have in common


def shared(failed: Sequence[Mapping[str, Any]], sound: Sequence[Mapping[str, Any]]) -> tuple[Shared, ...]:
    """The settings of flat configurations that all `failed` runs have and no `sound` one has, the clearest first.

    Without a sound run there is nothing to compare with; and a run whose configuration is not known may have them too.
    """
    if not failed or not sound or not all((*failed, *sound)):
        return ()
    keys = dict.fromkeys(key for config in (*failed, *sound) for key in config)
    columns = {key: ([one.get(key) for one in failed], [one.get(key) for one in sound]) for key in keys}
    columns = {key: (one, other) for key, (one, other) in columns.items() if _vary([*one, *other])}
    found = [part for key, (one, other) in columns.items() for part in _parted(key, one, other, len(columns))]
    return tuple(sorted(found, key=lambda part: (part.chance, part.setting.how != "=")))


def _vary(values: Sequence[Any]) -> bool:
    return any(not same_setting(value, values[0]) for value in values)


def _parted(key: str, one: Sequence[Any], other: Sequence[Any], settings: int) -> Iterator[Shared]:
    """The setting by which a key parts the failed from the sound runs, if it does."""
    numbers = all(map(_finite, (*one, *other)))
    chance = min(1.0, settings * _chance([*one, *other], len(one), numbers=numbers))
    if not _vary(one):
        if not any(same_setting(value, one[0]) for value in other):
            yield Shared(Setting(key=key, how="=", value=one[0]), _others(one, other, numbers=numbers), chance)
    elif numbers and min(one) > max(other):
        yield Shared(Setting(key=key, how=">=", value=min(one)), f"<= {wording.number(max(other))}", chance)
    elif numbers and max(one) < min(other):
        yield Shared(Setting(key=key, how="<=", value=max(one)), f">= {wording.number(min(other))}", chance)


def _finite(value: object) -> bool:
    return is_setting_number(value) and math.isfinite(value)  # type: ignore[arg-type]


def _others(one: Sequence[Any], other: Sequence[Any], *, numbers: bool) -> str:
    """What the sound runs have in place of the one value of the failed ones."""
    if not _vary(other):
        return f"= {_named(other[0])}"
    if numbers and max(other) < one[0]:
        return f"<= {wording.number(max(other))}"
    if numbers and min(other) > one[0]:
        return f">= {wording.number(min(other))}"
    return "other values"


def _chance(values: Sequence[Any], failed: int, *, numbers: bool) -> float:
    """The share of all choices of so many of these runs that the setting would part from the others as well."""
    times = Counter(map(_spelled, values))
    ways = sum(count == failed for count in times.values())
    if numbers:
        ordered = sorted(values)  # the lowest so many, and the highest, unless they are one value and counted already
        ways += ordered[failed - 1] < ordered[failed] and times[_spelled(ordered[0])] != failed
        ways += ordered[-failed - 1] < ordered[-failed] and times[_spelled(ordered[-1])] != failed
    return min(1.0, ways / math.comb(len(values), failed))


def _spelled(value: Any) -> str:
    return f"{value:.9g}" if is_setting_number(value) else repr(value)


# -------------------------------------------------------------------------------------------------------- what is left


def left(group: Alike, stop_after: int) -> tuple[Setting, ...] | None:
    """What the runs have in common that are not worth their hours any more.

    Returns:
        Nothing in particular, `()`, when no run of the sweep has gone well; else all settings that tell the failed runs
        from the sound ones better than chance. None: nothing is to be stopped.
    """
    if not stop_after or len(group.failed) < max(2, stop_after):
        return None
    if not group.sound:
        return ()
    return tuple(part.setting for part in group.shared if part.clear) or None


# --------------------------------------------------------------------------------------------------------------- words


def sentence(group: Alike) -> str:
    """How many failed which way, and what they have that the sound ones have not."""
    head = f"{len(group.failed)} of {wording.count(group.begun, 'run')} failed alike ({mask.plain(group.failure, 80)})"
    sound = len(group.sound)
    if not sound:
        return f"{head}; none has gone well so far"
    if not group.shared:
        one = "the one that goes well" if sound == 1 else f"the {sound} that go well"
        return f"{head}; no setting tells them from {one}"
    named = group.shared[:_MOST]
    theirs = " and ".join(told(part.setting) for part in named)
    ones = "the sound one has" if sound == 1 else f"the {sound} sound ones have"
    others = " and ".join(f"{mask.plain(part.setting.key, _NAMED)} {part.others}" for part in named)
    unsure = "" if any(part.clear for part in group.shared) else " (too few runs to rule out chance)"
    return f"{head}: all have {theirs}; {ones} {others}{unsure}"


def told(setting: Setting) -> str:
    """`optimizer.lr >= 0.5`, without what looks like a secret."""
    return mask.plain(f"{setting.key} {setting.how} {_named(setting.value)}", 2 * _NAMED)


def _named(value: object) -> str:
    return wording.number(value) if isinstance(value, int | float) else mask.plain(value, _NAMED)


def by_sweep(runs: Iterable[tuple[str, Sibling]]) -> dict[str, list[Sibling]]:
    """Runs by the sweep that they say they belong to; those that name none belong together."""
    found: dict[str, list[Sibling]] = defaultdict(list)
    for sweep, one in runs:
        found[sweep].append(one)
    return found
