"""What is planned, and what of it has been tried already: by its configuration, or by its words where it has none."""

from __future__ import annotations

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import contract
from checker import mask, tomltext
from checker.registry import planned, record
from checker.registry.catalog import Entry, natural
from checker.registry.files import stamp

ALIKE = 0.9
"""Jaccard similarity of two ideas from which one counts as the other said again (zero-operators' dead-end check)."""

_LONGEST_NUMBER = 1000
"""Bits of a whole number; with longer ones nothing can be computed, and no setting has one."""

_WORD = re.compile(r"[<>=]+|[+-]?\w+(?:[._-]\w+)*")


def words(text: str) -> frozenset[str]:
    """The lower-cased words and numbers of a text, in any script, with their signs."""
    return frozenset(_WORD.findall(text.lower()))


def similarity(one: str, other: str) -> float:
    """The Jaccard index of the words of two texts, from 0 to 1; 0 where one of them has none."""
    a, b = words(one), words(other)
    return len(a & b) / len(a | b) if a and b else 0.0


class Planned(NamedTuple):
    """An idea in the `next.md` of an experiment."""

    origin: Entry
    name: str
    text: str
    change: Mapping[str, Any]
    """The change of the configuration as dotted keys; empty for an idea in words."""
    tried: Entry | None = None
    """The experiment that has tried it."""

    @property
    def by_hand(self) -> bool:
        """Whether it is no experiment at all."""
        return self.name.endswith(", by hand")


def plans(entries: Sequence[Entry]) -> list[Planned]:
    """Every idea in every `next.md`, newest experiment first, each with the experiment that has tried it."""
    found = [
        Planned(entry, idea.name, mask.unescaped(idea.text), _change(idea.toml))
        for entry in reversed(entries)
        for idea in _ideas(f"{entry.folder}{os.sep}{contract.NEXT}")
    ]
    return _with_trials(found, entries) if found else []


def _ideas(path: str) -> Sequence[planned.Idea]:
    with suppress(OSError, contract.Unreadable):
        found = stamp(path)
        return _ideas_in(path, found) if found else ()
    return ()


@lru_cache(maxsize=1 << 14)
def _ideas_in(path: str, _stamp: contract.Stamp) -> tuple[planned.Idea, ...]:
    """The ideas in a file with this stamp."""
    return tuple(planned.ideas(contract.read_plain(path)[0].decode("utf-8", "replace")))


@lru_cache(maxsize=1 << 14)
def _change(toml: str) -> Mapping[str, Any]:
    with suppress(tomltext.NotToml):
        change = dict(record.flat(tomltext.document(toml)))
        huge = any(isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER for value in change.values())
        return {} if huge else change
    return {}


def _with_trials(found: Sequence[Planned], entries: Sequence[Entry]) -> list[Planned]:
    changes = any(idea.change for idea in found)
    known = Trials((entry.folder, record.core_of(entry.folder)) for entry in entries) if changes else None
    by_folder = {entry.folder: entry for entry in entries}
    said = _Said([entry for entry in entries if entry.hypothesis and entry.status != contract.State.PENDING])

    def trial(idea: Planned) -> Entry | None:
        if idea.change:
            return by_folder.get((known and known.of(idea.origin.folder, idea.change)) or "")
        return None if idea.by_hand else said.like(idea.text, idea.origin.id)

    return [idea._replace(tried=trial(idea)) for idea in found]


class Trials:
    """The experiments that there are, by what they do: who did something first counts.

    Args:
        cores: the `record.core` of each folder; None where it has no configuration.
    """

    def __init__(self, cores: Iterable[tuple[str, str | None]]) -> None:
        self._by_core: dict[str, str] = {}
        for folder, core in cores:
            if core is not None:
                first = self._by_core.setdefault(core, folder)
                if first is not folder and natural(folder) < natural(first):
                    self._by_core[core] = folder

    @classmethod
    def beside(cls, folder: Path) -> Self:
        """Those of the experiments in the folder in which `folder` lies."""
        with suppress(OSError), os.scandir(folder.parent) as found:
            return cls([(item.path, _core_of(item)) for item in found if not item.name.startswith(".")])
        return cls([])

    def of(self, folder: str, change: Mapping[str, Any]) -> str | None:
        """The folder whose configuration is that of `folder` with `change` laid over it, or None."""
        base = record.config_of(folder)
        return self._by_core.get(record.core(record.laid_over(base, change))) if base else None


_cores: dict[tuple[str, int], str] = {}
"""The core of each folder, by its path and inode. A record is written once, so it is asked for no second time: a page
about one of 10,000 experiments is written every few seconds while it runs."""


def _core_of(item: os.DirEntry[str]) -> str | None:
    known = _cores.get((item.path, item.inode()))
    if known is None and (known := record.core_of(item.path)) is not None:
        _cores[item.path, item.inode()] = known
    return known


class _Said:
    """Hypotheses, searched for one that says the same: only those that share a rare word are compared.

    Sets of n words or more can only be 0.9 alike when they share one of the rarest n - ceil(0.9 n) + 1 of either
    (prefix filtering, Chaudhuri, Ganti and Kaushik 2006).
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._sets = [(words(entry.hypothesis), entry) for entry in entries]
        self._count = Counter(word for found, _ in self._sets for word in found)
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for number, (found, _) in enumerate(self._sets):
            for word in self._prefix(found):
                self._by_word[word].append(number)

    def _prefix(self, found: frozenset[str]) -> list[str]:
        rarest = sorted(found, key=lambda word: (self._count[word], word))
        return rarest[: len(found) - math.ceil(ALIKE * len(found)) + 1]

    def like(self, text: str, besides: str) -> Entry | None:
        """The first experiment, other than `besides`, whose hypothesis says what `text` says."""
        wanted = words(text)
        near = sorted({number for word in self._prefix(wanted) for number in self._by_word.get(word, ())})
        for number in near:
            found, entry = self._sets[number]
            if entry.id != besides and len(wanted & found) >= ALIKE * len(wanted | found):
                return entry
        return None


def repeated(entry: Entry, earlier: Sequence[Entry]) -> tuple[Entry, float] | None:
    """The earlier experiment whose hypothesis is most like that of `entry`, and how alike they are."""
    scored = ((other, similarity(entry.hypothesis, other.hypothesis)) for other in earlier if other.id != entry.id)
    return max(scored, key=lambda found: found[1], default=None)


def dead(plans: Sequence[Planned]) -> Iterator[Planned]:
    """Ideas whose trial is over and has gained nothing; one that has, or is under way, is no dead end."""
    for idea in plans:
        tried = idea.tried
        if tried is not None and tried.over and not (tried.gain is not None and tried.gain > 0 and not tried.failure):
            yield idea
