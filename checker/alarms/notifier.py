"""The process that carries alarms: a courier for each channel, in a thread of its own, and an eye on the checker.

It is a process and no thread of the watch. So a channel that hangs can hold up neither the loop nor its leaving, a
library of a hundred services is not in the memory of the one program that must not die, and when that dies all the same
there is somebody left to say so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import contract
from checker.alarms.channels import Channel
from checker.alarms.courier import Courier
from checker.alarms.fares import Fares
from checker.alarms.message import Message, Place, about_checker
from checker.alarms.policy import Notify
from checker.alarms.record import Health, Kept, Record
from checker.alarms.vigil import Vigil
from checker.feed.bell import Bell
from checker.feed.reader import Reader
from checker.finding import Severity
from checker.service import alive
from checker.service.alive import Alive
from checker.terms import Moment

LOOK = 1.0
"""Seconds between two looks at the feed where the kernel does not tell that it grows, and at who is to be heeded."""

VIGIL = 5.0
"""Seconds between two looks at the checker."""

LEAVE = (1.0, 10.0)
"""Seconds for what is still to be told: when a signal came, and when the watch has ended in order. What is left is told
by the next one, which begins where this one stood."""

ORPHAN_PATIENCE = 10.0
"""Seconds after a watch has vanished in which another may be started; then people are told that nobody watches."""

Send = Callable[[Message], str]


def begin(root: Path, channels: Sequence[Channel]) -> None:
    """Sees to it that channels which are new begin here: what the feed holds by now is told by nobody.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        last = Reader(root / contract.EVENTS).last()
    except FileNotFoundError:
        last = 0
    for channel in channels:
        kept = Kept(root, channel.name)
        if kept.read() is None:
            kept.make_folder()
            kept.write(Record(channel.name, last, since=time.time()))


@dataclass
class _Desk:
    """A channel at work."""

    channel: Channel
    send: Send
    kept: Kept
    heard: threading.Event = field(default_factory=threading.Event)
    courier: Courier | None = None
    done: bool = False
    extra: list[Message] = field(default_factory=list)
    """What its courier will be given."""


class Notifier:
    """Carries alarms about the runs below a folder until it is told to leave.

    Args:
        place: the watched folder.
        senders: how to send through each channel.
        policy: what is worth an alarm; asked again after a reload.
        say: tells whoever looks at this process.
    """

    def __init__(
        self,
        place: Place,
        senders: Sequence[tuple[Channel, Send]],
        policy: Callable[[], Notify],
        say: Callable[[str, Severity], object] = lambda *_: None,
    ) -> None:
        self._place, self._policy, self._say = place, policy, say
        self._bell = Bell(place.root / contract.EVENTS)
        self._desks = [_Desk(channel, send, Kept(place.root, channel.name)) for channel, send in senders]
        self._in_force = policy()
        self._reload = False
        self._leaving_until: float | None = None
        self._orphan = False
        self._vigil, self._next_vigil = Vigil(), 0.0
        self._fares = Fares()
        self._trouble: set[str] = set()

    # ------------------------------------------------------------------------- what others may call, also from signals

    def leave(self, seconds: float = LEAVE[0]) -> None:
        """Asks it to end when everything is told, or after so long."""
        self._leaving_until = min(self._leaving_until or float("inf"), time.monotonic() + seconds)
        self._bell.ring()

    def reload(self) -> None:
        """Asks it to read again what is worth an alarm."""
        self._reload = True
        self._bell.ring()

    def orphaned(self) -> None:
        """The watch that it belongs to is gone without a word."""
        self._vigil.orphaned(ORPHAN_PATIENCE)
        self._orphan, self._next_vigil = True, 0.0
        self._bell.ring()

    # ------------------------------------------------------------------------------------------------------- the loop

    def run(self) -> bool:
        """Works until it may leave; False when a courier has failed in a way that nobody foresaw."""
        threads = [threading.Thread(target=self._work, args=(desk,), daemon=True) for desk in self._desks]
        for thread in threads:
            thread.start()
        try:
            while not self._may_leave():
                self._bell.listen()
                self._heed()
                for desk in self._desks:
                    desk.heard.set()
                if any(not (thread.is_alive() or desk.done) for thread, desk in zip(threads, self._desks, strict=True)):
                    return False
                self._bell.wait(LOOK if self._leaving_until is None else 0.05)
        finally:
            self._bell.close()
        self._tell_fares()
        return True

    def _may_leave(self) -> bool:
        if self._leaving_until is None:
            return False
        return all(desk.done for desk in self._desks) or time.monotonic() >= self._leaving_until

    def _heed(self) -> None:
        """Looks at everything but the feed."""
        if self._reload:
            self._reload, self._in_force = False, self._policy()
            for desk in self._desks:
                if desk.courier is not None:
                    desk.courier.judge_by(self._in_force)
        if time.monotonic() >= self._next_vigil:
            self._next_vigil = time.monotonic() + (LOOK if self._orphan else VIGIL)
            self._look_at_checker()
        self._tell_fares()

    def _look_at_checker(self) -> None:
        answer = alive.ask(self._place.root)
        said = self._vigil.look(answer, time.monotonic())
        if said:
            good = answer.alive is Alive.LOOKING
            severity = Severity.INFO if good else Severity.CRITICAL
            self._say(said, severity)
            for desk in self._desks:
                desk.extra.append(about_checker(said, self._place, severity, f"checker-{time.time():.0f}"))
        if self._orphan and self._leaving_until is None and (said or answer.alive is Alive.LOOKING):
            self.leave(LEAVE[1])  # somebody else watches, and tells; or it is said that nobody does

    def _tell_fares(self) -> None:
        couriers = [desk.courier for desk in self._desks if desk.courier is not None]
        for text, severity in self._fares.look(courier.record for courier in couriers):
            self._say(text, severity)
        for trouble in {courier.trouble for courier in couriers} - {""} - self._trouble:
            self._trouble.add(trouble)
            self._say(trouble, Severity.WARNING)

    # --------------------------------------------------------------------------------------------- a thread's own work

    def _work(self, desk: _Desk) -> None:
        """One channel, from the moment that no other process serves it."""
        while not desk.kept.hold():
            if self._leaving_until is not None:
                desk.done = True
                return
            desk.heard.wait(LOOK)
            desk.heard.clear()
        courier = desk.courier = self._courier(desk)
        while not desk.done:
            while desk.extra:
                courier.extra.append(desk.extra.pop(0))
            leaving = self._leaving_until is not None
            wait = courier.step(Moment.now(), leaving=leaving)
            if leaving and courier.idle and not desk.extra:
                desk.kept.close()
                desk.done = True
            elif wait > 0:
                desk.heard.wait(wait)
                desk.heard.clear()

    def _courier(self, desk: _Desk) -> Courier:
        record = desk.kept.read() or Record(desk.channel.name, self._last(), since=time.time())
        if record.health is Health.FAILS:  # that was then; the next try will show
            record.health = Health.NEW
        reader = Reader(self._place.root / contract.EVENTS)
        return Courier(desk.kept, record, reader, desk.send, self._place, self._in_force)

    def _last(self) -> int:
        try:
            return Reader(self._place.root / contract.EVENTS).last()
        except OSError:
            return 0
