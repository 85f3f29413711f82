"""`--metrics-port`: what Prometheus reads. Needs the extra `[metrics]`; nothing else does.

What is true now is read from the daemon when somebody asks; what happened is counted as it happens. Runs have no names
here: a label per run would make the database grow for ever.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import contract
from checker.detectors import RULES
from checker.enforce import FORCE, Did
from checker.events import Life
from checker.finding import Severity
from checker.terms import Complaint, Notice

if TYPE_CHECKING:
    from checker.judge import Case
    from checker.run import Run

ROUND_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Seconds. A quiet round takes a millisecond, the first look at a large backlog a minute."""

NAMES = tuple(rule.name for rule in RULES)

PERSON = "person"

_FORCED = frozenset(str(did) for did in FORCE)


class Watched(Protocol):
    """What of a daemon is shown."""

    runs: dict[Path, Run]
    round_seconds: float

    @property
    def apart(self) -> dict[str, int]:
        """How many run folders are not among `runs`, by reason."""


def stands(run: Run) -> str:
    """How a run stands, in one of a few words."""
    if run.chasing:
        return "stopping"
    if run.state is contract.State.RUNNING and run.life is Life.GONE:
        return str(contract.State.KILLED) if run.forced else "gone"
    return str(run.state) if run.state is not None else "unknown"


STANDS = (*map(str, contract.State), "stopping", "gone", "unknown")
"""Every word that `stands` has; each is shown, zero included, so that an alert has something to compare."""


class Metrics:
    """The numbers of one watch, and the page that they are on.

    Raises:
        Complaint: the library is missing, or the port cannot be had.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            import prometheus_client as client
            from prometheus_client.core import GaugeMetricFamily
        except ImportError:
            raise Complaint("--metrics-port needs the extra: pip install 'training-checker[metrics]'") from None
        self._watched: Watched | None = None
        self._rows: dict[Path, tuple[Case, int, int]] = {}
        self._behind: set[Path] = set()
        self._behind_since: float | None = None
        self._last_round = 0.0
        self.registry = client.CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Any:
            return client.Counter(f"checker_{name}", text, labels, registry=self.registry)

        self._findings = counter("findings", "Findings told", "rule", "severity")
        self._requested = counter("kills_requested", "Stops asked for, by rule or person", "rule")
        self._forced = counter("kills_forced", "Signals sent to runs that did not answer", "signal")
        self._observed = counter("kills_observed", "Stops that --observe did not ask for", "rule")
        self._read = counter("rows_read", "Rows read, again after a reload")
        self._unreadable = counter("rows_unreadable", "Lines that are no rows")
        self._reports = counter("reports_written", "Reports of one run written")
        self._reloads = counter("reloads", "Reloads of the limits", "outcome")
        for rule in (*NAMES, PERSON):  # an alert on an increase needs the zero before the one
            self._requested.labels(rule)
            self._observed.labels(rule)
        for rule in NAMES:
            for severity in Severity:
                self._findings.labels(rule, str(severity))
        for outcome in ("taken", "unchanged", "refused"):
            self._reloads.labels(outcome)
        for signal in sorted(_FORCED):
            self._forced.labels(signal)
        self._rounds = client.Histogram(
            "checker_round_duration_seconds", "Length of a look at everything that may have changed",
            buckets=ROUND_BUCKETS, registry=self.registry,
        )  # fmt: skip
        build = {"version": _version(), "python": platform.python_version()}
        client.Info("checker_build", "What is running", registry=self.registry).info(build)
        client.ProcessCollector(registry=self.registry)
        self._family = GaugeMetricFamily
        self.registry.register(self)
        try:
            self._server, self._thread = client.start_http_server(port, addr=host, registry=self.registry)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Complaint(f"--metrics-port {port}: {host} port {port} cannot be had ({reason})") from None
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{self._server.server_port}/metrics"

    def show(self, watched: Watched) -> None:
        self._watched = watched

    def close(self) -> None:
        """Ends the page. A program that ends need not wait for it: its thread ends with the program."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # ---------------------------------------------------------------------------------------- what happened, counted

    def tell(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            rule = notice.rule if notice.rule in NAMES else PERSON  # a person's request may name anything
            if notice.event == "finding":
                self._findings.labels(rule, str(notice.severity)).inc()
            elif notice.event == Did.REQUESTED:
                self._requested.labels(rule).inc()
            elif notice.event == Did.OBSERVED:
                self._observed.labels(rule).inc()
            elif notice.event in _FORCED:
                self._forced.labels(notice.event).inc()

    def turned(self, run: Run) -> None:
        """Counts what a turn has read."""
        rows, bad = run.case.history.index + 1, run.case.history.unreadable
        case, rows_before, bad_before = self._rows.get(run.folder, (run.case, 0, 0))
        if case is not run.case:  # judged anew from its first row
            rows_before = bad_before = 0
        self._rows[run.folder] = (run.case, rows, bad)
        (self._behind.add if run.behind else self._behind.discard)(run.folder)
        self._read.inc(max(0, rows - rows_before))
        self._unreadable.inc(max(0, bad - bad_before))

    def round(self, watched: Watched) -> None:
        """Counts a look at everything."""
        self._rounds.observe(watched.round_seconds)
        self._last_round = time.time()
        if len(self._rows) > len(watched.runs):  # some are gone
            self._rows = {folder: known for folder, known in self._rows.items() if folder in watched.runs}
            self._behind &= watched.runs.keys()
        self._behind_since = (self._behind_since or time.monotonic()) if self._behind else None

    def reported(self) -> None:
        self._reports.inc()

    def reloaded(self, outcome: str) -> None:
        self._reloads.labels(outcome).inc()

    # ------------------------------------------------------------------------------------------- what is true now

    def collect(self) -> Iterator[Any]:
        """The gauges; called by the library in a thread of its own, for every request."""
        if self._watched is None:
            return
        # One step of the interpreter: the loop may take runs in and let them go meanwhile.
        runs = list(self._watched.runs.values())
        found = Counter(stands(run) for run in runs)
        states = self._family("checker_runs", "Runs that are watched, by how they stand", labels=["state"])
        for word in STANDS:
            states.add_metric([word], found[word])
        yield states
        apart = self._family("checker_runs_apart", "Run folders that are not watched, by reason", labels=["reason"])
        for reason, count in self._watched.apart.items():
            apart.add_metric([reason], count)
        yield apart
        behind = 0.0 if self._behind_since is None else time.monotonic() - self._behind_since
        plain = {
            "checker_runs_behind": ("Runs of which more is to be read", len(self._behind)),
            "checker_behind_seconds": ("For how long there has been more to read than was read", behind),
            "checker_last_round_timestamp_seconds": ("When everything was last looked at", self._last_round),
        }
        for name, (text, value) in plain.items():
            yield self._family(name, text, value=value)


def _version() -> str:
    try:
        return metadata.version("training-checker")
    except metadata.PackageNotFoundError:
        return "unknown"
