"""The answer of one check."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"

    @property
    def rank(self) -> int:
        return ("ok", "warn", "fail").index(self)


class Answer(NamedTuple):
    """What was found, in one sentence, and what to do about it."""

    level: Level
    text: str
    todo: str = ""


def ok(text: str, todo: str = "") -> Answer:
    return Answer(Level.OK, text, todo)


def warn(text: str, todo: str) -> Answer:
    return Answer(Level.WARN, text, todo)


def fail(text: str, todo: str) -> Answer:
    return Answer(Level.FAIL, text, todo)
