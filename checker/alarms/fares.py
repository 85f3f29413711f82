"""How channels fare, said once when it changes: a channel that fails is reported, and holds up nobody."""

from __future__ import annotations

from collections.abc import Iterable

from checker.alarms.pace import PAUSE
from checker.alarms.record import Health, Record
from checker.finding import Severity

Said = tuple[str, Severity]


class Fares:
    """From one look at the records to the next."""

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def look(self, records: Iterable[Record]) -> list[Said]:
        """What is new."""
        said: list[Said] = []
        for record in records:
            name, failing = record.channel, record.health is Health.FAILS
            if failing and name not in self._failing:
                self._failing.add(name)
                said.append((f"{failure(record)}; tried again every {PAUSE[0]:g} to {PAUSE[1]:g} s", Severity.WARNING))
            elif record.health is Health.WORKS and name in self._failing:
                self._failing.discard(name)
                said.append((f"alarms through {name} get through again", Severity.INFO))
        return said


def failure(record: Record) -> str:
    """What is wrong with a channel, as a sentence."""
    return f"alarms through {record.channel} do not get through ({record.why}), {record.waiting} waiting"
