"""Text logs: what programs print, understood by patterns. The first family that fits a line is kept for the whole log.

A pattern is a regular expression whose named groups are what a row holds: `step`, `epoch`, `total_steps`, or a metric.
Times in text have no zone and often no date; they are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from checker.decoder import LineDecoder
from checker.events import Row, Unreadable
from checker.formats.format import Format, Reading
from checker.formats.patterns import (
    BARE,
    COUNT,
    COUNTERS,
    FAMILIES,
    HEADING,
    PROGRESS,
    TRAINING,
    VALIDATION,
    WORDS,
    Family,
)

_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")

LONGEST = 2048
"""Bytes. A longer line is no line of a progress report, and regular expressions may take long over it."""

_LOSS = b"loss"
"""What every line that is understood without a pattern of a person's holds; most lines of most files do not."""


class TextDecoder(LineDecoder):
    """A text log: lines that fit no pattern are somebody else's, not unreadable."""

    __slots__ = ("_epoch", "_reading", "family")

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self._reading = reading
        self._epoch: dict[str, Any] = {}
        """What the last heading said, until a row has taken it."""
        self.family: str | None = None
        """The family that the log has turned out to be of."""

    def read(self, line: bytes) -> Row | Unreadable | None:
        if len(line) > LONGEST:
            return None
        if not self._reading.patterns and _LOSS not in line.lower() and b"poch" not in line.lower():
            return None
        text = _ESCAPE.sub(b"", line.rstrip(b"\r").rpartition(b"\r")[2]).decode("utf-8", errors="replace")
        heading = HEADING.match(text)
        if heading:
            counts = zip(("epoch", "total_epochs"), heading.groups(), strict=True)
            self._epoch = {name: int(count) for name, count in counts if count}
            return None
        family, document = understood(text, self.family, self._reading.patterns, counted=bool(self._epoch))
        if not document:
            return None
        self.family = family
        return self._reading.row({**self._epoch, **document}, self.rows, self.lines)


def understood(
    text: str, family: str | None, own: Mapping[str, str], *, counted: bool = False
) -> tuple[str | None, dict[str, Any]]:
    """The family of a line and what it says; an empty document when it says nothing.

    Args:
        text: the line.
        family: that of the lines before it; None when there were none.
        own: patterns of a person, which come first.
        counted: it is known from a line above where the training is.
    """
    known = ((one.name, one.patterns) for one in FAMILIES)
    for name, patterns in (*((name, (pattern,)) for name, pattern in own.items()), *known):
        if family in (None, name):
            for pattern in patterns:
                if match := _compiled(pattern).search(text):
                    return name, _groups(match)
    return (PAIRS, _pairs(text, counted=counted)) if family in (None, PAIRS) else (family, {})


PAIRS = "pairs"


def _pairs(text: str, *, counted: bool) -> dict[str, Any]:
    """Names with numbers, where one of them is a loss; that makes a line a row."""
    found: dict[str, Any] = {}
    for name, number in (*WORDS.findall(text), *BARE.findall(text)):
        found.setdefault(name.strip().lower().replace(" ", "_"), _number(number))
    if not any("loss" in name for name in found):
        return {}
    if "loss" in found and VALIDATION.search(text) and not TRAINING.search(text):
        found.setdefault("val_loss", found.pop("loss"))
    counts = {("epoch" if name.lower() == "epoch" else "step"): (at, of) for name, at, of in COUNT.findall(text)}
    if not (counted or counts or PROGRESS.search(text) or COUNTERS & found.keys()):
        return {}  # the mean of a whole run, say, printed at its end
    for name, (at, of) in counts.items():
        if name == "step" and of and "epoch" in counts:
            continue  # it counts from 0 in each epoch
        found[name] = _number(at)
        if of:
            found[f"total_{name}s"] = _number(of)
    return found


def _groups(match: re.Match[str]) -> dict[str, Any]:
    return {name: _number(text) for name, text in match.groupdict().items() if text is not None}


def _number(text: str) -> Any:
    plain = text.replace(",", "").rstrip(".;:)]}|'\"").lstrip("([{'\"")
    for kind in (int, float):
        with suppress(ValueError):
            return kind(plain)
    return text


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_TAUGHT: dict[str, str] = {}


def teach(patterns: Mapping[str, str]) -> None:
    """From now on logs are also known by these patterns of a person. What a line says is up to who reads the log."""
    for name, pattern in patterns.items():
        if _TAUGHT.get(name) != pattern:
            _TAUGHT.pop(name, None)
            _TAUGHT[name] = pattern


def taught() -> tuple[str, ...]:
    """The patterns by which logs are known beside those shipped."""
    return tuple(_TAUGHT.values())


LINES_TO_KNOW = 2
"""Lines of a log that must be understood before it is taken for one: any text may hold a loss by chance."""


def _known(head: bytes) -> bool:
    if b"\0" in head:
        return False
    decoder = TextDecoder(Reading(patterns=_TAUGHT))
    found = (event for event in decoder.feed(head) if isinstance(event, Row) and event.values)
    return sum(1 for _, _ in zip(found, range(LINES_TO_KNOW), strict=False)) == LINES_TO_KNOW


FORMAT = Format(
    "text",
    "text logs, by patterns",
    ("*.log", "*.txt", "*.out", "*.err"),
    _known,
    decoder=TextDecoder,
    about="no times; values are as precise as they were printed",
)


def families() -> Iterator[Family]:
    yield from FAMILIES
    yield Family(PAIRS, "names with numbers, one of them a loss", (), "epoch 3/10 | train loss 0.52 | val loss 0.61")
