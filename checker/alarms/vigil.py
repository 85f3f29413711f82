"""Does anybody watch? Said when nobody does any more, and when somebody does again: silence is to mean well."""

from __future__ import annotations

from checker.service.alive import Alive, Answer

PATIENCE = 60.0
"""Seconds for whoever starts checkers to start another one; systemd takes ten."""


class Vigil:
    """What is said about the checker, from one look to the next. A checker that took its leave is no alarm."""

    def __init__(self) -> None:
        self._patience = PATIENCE
        self._orphaned = False
        self._seen = False
        """Somebody has watched."""
        self._missed: float | None = None
        """Since when nobody has."""
        self._told = False

    def orphaned(self, patience: float) -> None:
        """It is certain that whoever watched is gone without a word; another one has so many seconds to come."""
        self._seen = self._orphaned = True
        self._patience = patience

    def look(self, answer: Answer, now: float) -> str:
        """What is to be said now, if anything.

        Args:
            answer: who watches.
            now: the clock for intervals.
        """
        if answer.alive is Alive.LOOKING:
            told, self._told = self._told, False
            self._seen, self._missed = True, None
            return f"the folder is watched again: {answer.text}" if told else ""
        left = answer.alive is Alive.NONE and (answer.watcher is None or answer.watcher.ended is not None)
        if (left and not self._orphaned) or not self._seen:
            self._missed, self._told = None, False
            return ""
        self._missed = now if self._missed is None else self._missed
        if self._told or now - self._missed < self._patience:
            return ""
        self._told = True
        return answer.text
