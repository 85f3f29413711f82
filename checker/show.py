"""What people see in a terminal. Everything a run wrote is cleaned first: a log must not steer a terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import contract
from checker.clean import clean
from checker.events import Life
from checker.finding import Severity
from checker.names import TRAIN_LOSS
from checker.run import Run
from checker.terms import Notice

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from checker.backtest import Backtest

_STYLE = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.INFO: ""}
_EVENTS = 8


def line(notice: Notice) -> str:
    """A notice as one line of a log."""
    severity = notice.severity if notice.severity is not Severity.INFO else ""
    head = " ".join(part for part in (clean(notice.run), clean(notice.rule), severity) if part)
    return f"{time.strftime('%H:%M:%S')} {head} → {clean(notice.text)}"


class Line(NamedTuple):
    """One run in a table; finished strings."""

    run: str
    state: str
    step: str
    phase: str
    loss: str
    findings: str
    severity: Severity
    rank: tuple[int, float]

    def document(self) -> dict[str, str]:
        return {name: str(value) for name, value in zip(self._fields, self, strict=True) if name != "rank"}


def row(run: Run) -> Line:
    """A run as it stands in the table."""
    history, document = run.case.history, run.document
    series = history.series[TRAIN_LOSS]
    bad = history.bad_now(TRAIN_LOSS)
    loss = str(bad.last) if bad is not None else f"{series.last:.5g}" if series.count else "-"
    found = run.case.open_findings()
    worst = max((finding.severity for finding in found), key=lambda severity: severity.rank, default=Severity.INFO)
    step = document.get("step", history.step)
    total = document.get("total_steps") or history.total_steps
    running = run.state is contract.State.RUNNING and run.life is not Life.GONE
    return Line(
        clean(run.name, 40),
        _state(run),
        clean(f"{step if step is not None else '-'}{f'/{total}' if total else ''}", 24),
        clean(document.get("phase") or history.phase, 16),
        loss,
        clean(", ".join(finding.rule for finding in found) or "-", 60),
        worst,
        (0 if running else 1, -(history.at or 0.0)),
    )


def _state(run: Run) -> str:
    if run.state is None:
        return "status unreadable" if run.status.problem else "no status"
    if run.chasing:
        return "stopping"
    if run.state is not contract.State.RUNNING or run.life is not Life.GONE:
        return str(run.state)
    return str(contract.State.KILLED) if run.forced else "process gone"


def table(lines: Sequence[Line], height: int | None = None, title: str = "") -> Table:
    """The runs, running ones and newest first; at most `height` of them, and then how many are left out."""
    from rich.table import Table
    from rich.text import Text

    found = Table("run", "state", "step", "phase", "loss", "findings", title=title or None, expand=False)
    ordered = sorted(lines, key=lambda line: line.rank)
    shown = ordered if height is None or len(ordered) <= height else ordered[: max(1, height - 1)]
    for item in shown:
        cells = [Text(cell) for cell in item[:5]]
        found.add_row(*cells, Text(item.findings, style=_STYLE[item.severity]))
    if len(shown) < len(ordered):
        found.add_row(Text(f"… and {len(ordered) - len(shown)} more", style="dim"))
    return found


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, where nobody parses; yields what is to be called after each piece."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("judging", total=total)
        yield lambda: bar.advance(task)


def backtest(found: Backtest) -> Iterator[RenderableType]:
    """The tables of a backtest, and what is to be looked at."""
    from rich.table import Table

    saved = sum(outcome.hours_saved for outcome in found.kills)
    rules = Table("rule", "would kill", "would alert", title=f"{len(found.outcomes)} runs")
    for rule, kills, alerts in found.rules():
        rules.add_row(rule, str(kills), str(alerts))
    yield rules
    yield f"{len(found.kills)} of {len(found.readable)} runs would have been stopped, {saved:.1f} hours earlier in all."
    for outcome in found.kills:
        if outcome.ended_well:
            yield clean(f"went on to a new best: {outcome.path}: {outcome.rule} at row {outcome.row}: {outcome.reason}")
    for outcome in found.outcomes:
        if outcome.error:
            yield clean(f"unreadable: {outcome.error}")
    classes = found.classes()
    if classes:
        labels = Table("label", "runs", "killed", "95 %", "seen", "95 %", "delay rows", "delay %", title="by label")
        for one in classes:
            labels.add_row(*_class_cells(one))
        yield labels


def _class_cells(one: Mapping[str, Any]) -> list[str]:
    share = "-" if one["delay_share"] is None else f"{100 * one['delay_share']:.1f}"
    ends = ["{:.1f}-{:.1f}".format(*(100 * end for end in one[name])) for name in ("killed_interval", "seen_interval")]
    delay = "-" if one["delay_rows"] is None else f"{one['delay_rows']:g}"
    cells = [one["label"], str(one["runs"]), str(one["killed"]), ends[0], str(one["seen"]), ends[1], delay, share]
    return [clean(cell) for cell in cells]


class Screen:
    """The live table and the last few events, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._events: deque[Notice] = deque(maxlen=_EVENTS)
        self._lines: deque[str] = deque(maxlen=_EVENTS)
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._live.stop()

    def tell(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self._events.append(notice)
            self._lines.append(line(notice))
        self._drawn = 0.0

    def say(self, event: str, text: str, severity: Severity = Severity.INFO, **_: object) -> None:
        """What the checker does itself, among what it notices."""
        self.tell([Notice("checker", text, severity, event=event)])

    def draw(self, runs: Iterable[Run]) -> None:
        """Draws at most four times a second: a busy run must not make the checker spend its time on drawing."""
        now = time.monotonic()
        if now - self._drawn < 0.25:
            return
        self._drawn = now
        with suppress(OSError):  # the terminal is gone: a signal will say so
            self._live.update(self._picture([row(run) for run in runs]), refresh=True)

    def _picture(self, lines: list[Line]) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        height = max(3, self._console.size.height - _EVENTS - 6)
        pairs = zip(self._events, self._lines, strict=True)
        events = [
            Text(text, style=_STYLE[notice.severity], no_wrap=True, overflow="ellipsis") for notice, text in pairs
        ]
        return Group(table(lines, height), *events)
