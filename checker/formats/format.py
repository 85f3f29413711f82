"""What a kind of log is: where it lies, how its content is known, and who understands it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from checker import rows
from checker.decoder import Decoder
from checker.events import Row, Unreadable

NOTHING = "none"
"""What a column means that is to be left out."""

_NO_PLACES: Mapping[str, str] = {}

HEAD = 1 << 16
"""Bytes of a file's beginning by which its content is known."""


@dataclass(frozen=True)
class Reading:
    """How logs are to be understood where they do not say it themselves; `checker.toml` tells."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """What a column means, by its own name: a role (`train_loss`) or a place (`step`)."""
    patterns: Mapping[str, str] = field(default_factory=dict)
    """Regular expressions for the lines of text logs, by the name that a person gave them."""

    def row(self, document: Mapping[str, Any], index: int, line: int, places: Mapping[str, str] = _NO_PLACES) -> Row:
        """The row that a document tells, in which `places` says what columns mean to the program that wrote it."""
        columns = self.columns
        if columns or places:
            named = ((columns.get(name) or places.get(name, name), value) for name, value in document.items())
            document = {name: value for name, value in named if name != NOTHING}
        return rows.row(document, index, line)


PLAIN = Reading()


class Kept(Enum):
    """How a program keeps its log."""

    APPENDED = "one file that grows"
    JOINED = "several files, read one after the other"
    SAVED = "one document, saved anew each time"


@dataclass(frozen=True)
class Format:
    """One kind of log.

    Attributes:
        name: what `checker formats` and `checker inspect` call it.
        title: who writes it.
        files: the names it has, as patterns relative to the run folder.
        recognises: whether a file whose first bytes these are is one.
        kept: how it is kept.
        decoder: understands a log that grows.
        read: all events of one that is saved anew; raises `Half` for one that is just being saved.
        held_back: seconds for which what was just written is not told, because more may come that belongs to it.
        about: what the format does not tell, or is known to tell wrongly.
        loss_falls: its programs train by a loss that is to fall; where not, nobody is asked which column it is.
    """

    name: str
    title: str
    files: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    kept: Kept = Kept.APPENDED
    decoder: Callable[[Reading], Decoder] | None = None
    read: Callable[[Sequence[Path], Reading], Iterator[Row | Unreadable]] | None = None
    held_back: float = 0.0
    about: str = ""
    loss_falls: bool = True


class Half(Exception):
    """A document that ends in the middle: it is just being saved, or its writer died over it."""
