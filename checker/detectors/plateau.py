"""plateau.

What it sees: being written.

Why it matters: being written.

How it decides: being written.

What to do: being written.
"""

from __future__ import annotations

from dataclasses import dataclass

from checker.finding import Sighting
from checker.history import History


@dataclass(frozen=True)
class Limits:
    pass


LIMITS = Limits()


def detect(history: History, limits: Limits) -> Sighting | None:
    return None
