"""Text from a run, made harmless for a terminal: a log must not steer it."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200b-\u200f\u202a-\u202e\u2066-\u2069]+")


def clean(text: object, limit: int = 400) -> str:
    """`text` on one line, without escape sequences, control characters or tricks with the writing direction."""
    short = str(text)
    if not short.isprintable():  # what is printable holds neither escapes nor control nor format characters
        short = _CONTROL.sub(" ", _ESCAPE.sub("", short))
    short = short.strip()
    return short if len(short) <= limit else short[: limit - 1] + "…"
