"""What surrounds the loop of a watch: signs of life, numbers, and new limits on SIGHUP. The loop knows none of it."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import contract
from checker import limits
from checker.daemon import Daemon
from checker.events import Life
from checker.finding import Severity
from checker.service.hangup import Hangup
from checker.service.heartbeat import Heartbeat
from checker.service.notify import Notify
from checker.terms import Notice
from checker.wording import count

if TYPE_CHECKING:
    from checker.alarms.beside import Beside
    from checker.run import Run
    from checker.service.metrics import Metrics


SIGN_SECONDS = 0.5
"""Between two looks at whether a sign of life is due."""


class Say(Protocol):
    """Tells people what the checker does itself."""

    def __call__(self, event: str, text: str, severity: Severity = ..., **fields: object) -> None: ...


class Surroundings:
    """Ties a daemon to whoever wants to know how it is."""

    def __init__(
        self,
        daemon: Daemon,
        heartbeat: Heartbeat,
        say: Say,
        *,
        named: Path | None = None,
        screen: bool = False,
        metrics: Metrics | None = None,
        alarms: Beside | None = None,
    ) -> None:
        self._daemon, self._heartbeat, self._say, self._named, self._metrics = daemon, heartbeat, say, named, metrics
        self._alarms = alarms
        self._notify = Notify()
        self._next_sign = 0.0
        self._looked = False
        """Everything that was there at the start has been read."""
        self._refused = ""
        """Why the limits that lie there now are not those in force."""
        self._hangup = Hangup(daemon.stop, daemon.alarm.ring, screen=screen)
        self._shown, self._told = daemon.after_round, daemon.tell
        daemon.after_turn, daemon.after_round = self._after_turn, self._after_round
        if metrics is not None:
            daemon.tell = self._tell
            metrics.show(daemon)
        if self._notify.watchdog:
            faulthandler.enable()  # the manager ends a hung service with SIGABRT: the journal then shows where it hung

    def end(self, why: str) -> None:
        """The loop is over."""
        self._notify.stopping(f"leaving: {why}")
        self._notify.close()

    def _tell(self, notices: Iterable[Notice]) -> None:
        known = list(notices)
        self._told(known)
        if self._metrics is not None:
            self._metrics.tell(known)

    def _after_turn(self, run: Run | None) -> None:
        self._alive()
        if run is not None and self._metrics is not None:
            self._metrics.turned(run)

    def _after_round(self) -> None:
        if self._daemon.stopping:  # this round was cut short
            return
        self._shown()
        whole = not self._daemon.reading
        self._alive(at_once=whole and not self._looked)
        self._looked = self._looked or whole
        if self._metrics is not None:
            self._metrics.round(self._daemon)
        if self._looked and not self._notify.is_ready:
            self._notify.ready(self._standing())
        self._notify.status(self._standing)
        if self._alarms is not None:
            for text, severity in self._alarms.look():
                self._say("alarms", text, severity)
        if self._hangup.asked:
            self._hangup.asked = False
            self._reload()

    def _alive(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if now < self._next_sign and not at_once:  # it is asked after every turn, ten thousand times a second
            return
        self._next_sign = now + SIGN_SECONDS
        self._notify.alive()
        daemon = self._daemon
        self._heartbeat.beat(
            at_once=at_once,
            mode=str(daemon.mode),
            runs=len(daemon.runs),
            poll_seconds=daemon.alarm.poll,
            round_seconds=round(daemon.round_seconds, 3),
        )

    def _standing(self) -> str:
        """How things stand, in the line that `systemctl status` shows."""
        runs = list(self._daemon.runs.values())
        running = sum(run.state is contract.State.RUNNING and run.life is not Life.GONE for run in runs)
        reading, stopping = sum(run.behind for run in runs), sum(run.chasing for run in runs)
        parts = [f"watching {count(len(runs), 'run')}: {running} running"]
        parts += [
            f"{number} {word}" for number, word in ((stopping, "being stopped"), (reading, "being read")) if number
        ]
        return ", ".join(parts) + (f"; limits refused: {self._refused}" if self._refused else "")

    def _reload(self) -> None:
        """Takes new limits, if they are right; otherwise those in force stay."""
        self._notify.reloading()
        daemon = self._daemon
        try:
            found = limits.in_force(daemon.root, self._named)
        except limits.LimitsError as error:
            faults = str(error).splitlines()
            self._refused = faults[0]
            outcome, severity = "refused", Severity.WARNING
            text = "\n".join(["new limits refused; those in force stay", *faults])
        else:
            self._refused, severity = "", Severity.INFO
            daemon.sweeps.policy, before = found.sweep, daemon.sweeps.policy
            as_before = (found.limits, found.reading, found.sweep) == (daemon.limits or {}, daemon.logs, before)
            if as_before:
                outcome, text = "unchanged", "limits read again: they are as they were"
            else:
                outcome, again = "taken", daemon.reload(found.limits, found.reading)
                judging = f"judging {count(again, 'run')} again from the first row"
                text = f"{found.sentence() or 'the shipped limits'}; {judging}"
        if self._alarms is not None:
            self._alarms.reload()
        self._say("reloaded" if outcome != "refused" else "refused", text, severity)
        if self._metrics is not None:
            self._metrics.reloaded(outcome)
        self._notify.ready(self._standing())


def counted(report: Callable[[Run], None], metrics: Metrics | None) -> Callable[[Run], None]:
    """`report`, counted when it was written."""
    if metrics is None:
        return report

    def write(run: Run) -> None:
        report(run)
        metrics.reported()

    return write
