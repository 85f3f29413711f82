"""Text from a run, made harmless for a terminal: a log must not steer it, and must not show a secret on it."""

from __future__ import annotations

from checker import mask

_LONGEST = 20_000


def clean(text: object, limit: int = 400) -> str:
    """`text` on one line, without escape sequences, invisible characters, secrets or tricks with its direction."""
    short = str(text)[:_LONGEST]
    if not short.isprintable():  # what is printable holds neither escapes nor control nor format characters
        short = " ".join(mask.seen(short).split())
    short = mask.secrets(short.strip())
    return short if len(short) <= limit else short[: limit - 1] + "…"
