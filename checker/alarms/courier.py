"""Who carries the alarms of one channel: reads the feed, sends what is worth it, and keeps how far it has come.

Nothing here waits but the sending itself, and each channel has a courier of its own: one that hangs holds up no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from checker.alarms import message as text
from checker.alarms import pace
from checker.alarms.incidents import Incident, Incidents
from checker.alarms.message import Message, Place
from checker.alarms.policy import NOTIFY, Notify
from checker.alarms.record import Health, Kept, Record
from checker.feed.reader import Reader
from checker.terms import Moment

SETTLE = 5.0
"""Seconds from the first line about a run to its message: in that time an obedient run has been asked, has saved itself
and has left, and the message can say so."""

IDLE = 3600.0
"""Nothing is to be done before something is heard."""

SAVE_SECONDS = 60.0
"""Between two writings of a place that has only moved: after a restart the lines since are read once more, no harm."""


class Courier:
    """One channel's.

    Args:
        kept: where its record is.
        reader: the feed, from its first line.
        send: sends a message; says why it could not.
        place: the watched folder.
        policy: what is worth an alarm.
    """

    def __init__(
        self, kept: Kept, record: Record, reader: Reader, send: Callable[[Message], str], place: Place,
        policy: Notify = NOTIFY,
    ) -> None:  # fmt: skip
        self.record = record
        self.extra: deque[Message] = deque()
        """What is to be told besides the feed."""
        self.trouble = ""
        """Why the record cannot be written; what was sent is then sent again after a restart."""
        self._kept, self._reader, self._send, self._place = kept, reader, send, place
        self._incidents = Incidents(record.told, policy)
        self._tries = 0
        self._not_before = 0.0
        self._saved_at = 0.0

    @property
    def idle(self) -> bool:
        """Everything is told."""
        return not (self._incidents.open or self.extra)

    def judge_by(self, policy: Notify) -> None:
        """What is worth an alarm from now on."""
        self._incidents.policy = policy

    def step(self, now: Moment, *, leaving: bool = False) -> float:
        """Sends one message at most; returns in how many seconds there may be something to do.

        Args:
            now: the time.
            leaving: there is no time to wait for what may follow.
        """
        self._read(now)
        ripe = [incident for incident in self._incidents.open.values() if leaving or _age(incident, now) >= SETTLE]
        if not ripe and not self.extra:
            self._keep(now)
            return min((SETTLE - _age(incident, now) for incident in self._incidents.open.values()), default=IDLE)
        if now.mono < self._not_before:
            return self._not_before - now.mono
        per_minute = self._incidents.policy.per_minute
        free = pace.free(self.record.sent, now.wall, per_minute)
        if not free:
            return max(0.1, pace.until_free(self.record.sent, now.wall, per_minute))
        if self.extra:
            return self._carry(self.extra[0], [], now)
        # With the last message that is free for a while goes everything, also what would have had a moment to ripen.
        batch = pace.batch(self._incidents.open.values() if free == 1 else ripe, free)
        what = text.one(batch[0], self._place) if len(batch) == 1 else text.many(batch, self._place)
        return self._carry(what, batch, now)

    def _read(self, now: Moment) -> None:
        try:
            for line in self._reader.read():
                old = min(max(0.0, now.wall - line["seq"] / 1000), SETTLE)  # who was away lets nobody wait again
                self._incidents.take(line, now.mono - old)
        except OSError:  # there is no feed yet, or it was deleted; the checker writes it anew
            return

    def _carry(self, message: Message, batch: list[Incident], now: Moment) -> float:
        why = self._send(message)
        if why:
            self._tries += 1
            self._not_before = now.mono + pace.pause(self._tries)
            self._fares(Health.FAILS, why, now)
            self._save(now)
            return self._not_before - now.mono
        self._tries = 0
        self._fares(Health.WORKS, "", now)
        self.record.sent = [*pace.recent(self.record.sent, now.wall), now.wall]
        if not batch:
            self.extra.popleft()
        for incident in batch:
            self.record.ahead[incident.run] = incident.last
            del self._incidents.open[incident.run]
        self._save(now)
        return 0.0

    def _fares(self, health: Health, why: str, now: Moment) -> None:
        if health is not self.record.health:
            self.record.since = now.wall
        self.record.health, self.record.why = health, why

    def _keep(self, now: Moment) -> None:
        """Writes how far it has come, now and then."""
        if self._reader.since > self.record.cursor and now.mono >= self._saved_at + SAVE_SECONDS:
            self._save(now)

    def _save(self, now: Moment) -> None:
        """Writes how far it has come: to before the first line that is still to be told."""
        first = min((incident.first for incident in self._incidents.open.values()), default=self._reader.since + 1)
        self.record.move(first - 1)
        self.record.waiting = len(self._incidents.open)
        self._saved_at = now.mono
        try:
            self._kept.write(self.record)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"how far alarms were told cannot be written ({error.strerror or error})"


def _age(incident: Incident, now: Moment) -> float:
    return now.mono - incident.opened
