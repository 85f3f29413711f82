"""Ours and the peers on the same rows: each run is read once, every tool is fed until its first verdict; all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from labelled import HARD, MUST_LIVE, QUIET, Run, programs, sample
from peers import PEERS, stream
from peers.base import Peer, Point, Setup

from checker import replay
from checker.finding import Action

OURS = "ours"

CHUNK = 16
"""Runs in one task. Where runs are compared, a task is a whole program."""

FALSE = 0.01
"""The share of must-live runs that a tuned peer may stop, or speak up about where there is nothing to say."""

TUNED_ON = 600
"""Runs of the tune split that grids are tried on, at most."""


class Verdict(NamedTuple):
    """What a tool said about one run: the row of its first stop and of its first word, stop or alert."""

    stop: int | None = None
    seen: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Tool:
    """A peer with limits; without a peer, ours."""

    peer: Peer | None = None
    limits: tuple[tuple[str, Any], ...] = ()
    tuned: bool = False

    @property
    def name(self) -> str:
        return self.peer.name if self.peer else OURS

    @property
    def compares(self) -> bool:
        return self.peer is not None and self.peer.compares

    def describe(self) -> str:
        """The limits as the table names them: only what tuning changed."""
        if self.peer is None:
            return "as shipped"
        if not self.tuned:
            return "documented"
        changed = [f"{name}={_short(value)}" for name, value in self.limits if value != self.peer.documented[name]]
        return "tuned: " + (", ".join(changed) or "as documented")


def _short(value: Any) -> str:
    return (
        "+".join(map(str, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def documented(peer: Peer) -> Tool:
    return Tool(peer, tuple(peer.documented.items()))


Verdicts = dict[str, Verdict]
"""By run id."""


class Played(NamedTuple):
    """Verdicts of each tool, in the order of the tools, and how many rows each run has."""

    verdicts: list[Verdicts]
    rows: dict[str, int]


def play(tools: Sequence[Tool], runs: Sequence[Run], *, jobs: int | None, tell: Callable[[int], None]) -> Played:
    """Feeds every run to every tool; `tell` hears how many runs of how many passes are done."""
    once = list({(tool.name, tool.limits): tool for tool in tools}.values())  # tuning may choose what is documented
    played = _play(once, runs, jobs=jobs, tell=tell)
    places = {(tool.name, tool.limits): place for place, tool in enumerate(once)}
    return played._replace(verdicts=[played.verdicts[places[tool.name, tool.limits]] for tool in tools])


def _play(tools: Sequence[Tool], runs: Sequence[Run], *, jobs: int | None, tell: Callable[[int], None]) -> Played:
    alone = [i for i, tool in enumerate(tools) if not tool.compares]
    compared = [i for i, tool in enumerate(tools) if tool.compares]
    tasks = [([tools[i] for i in alone], alone, list(part)) for part in _chunks(runs)] if alone else []
    tasks += [([tools[i] for i in compared], compared, part) for part in programs(runs).values()] if compared else []
    tasks.sort(key=lambda task: len(task[2]), reverse=True)  # the longest first, or all wait for the last
    played = Played([{} for _ in tools], {})
    with ProcessPoolExecutor(jobs or os.cpu_count(), initializer=_one_thread) as pool:
        for (_, places, part), (verdicts, rows) in zip(
            tasks, pool.map(_task, [task[0] for task in tasks], [task[2] for task in tasks]), strict=True
        ):
            for place, found in zip(places, verdicts, strict=True):
                played.verdicts[place].update(found)
            played.rows.update(rows)
            tell(len(part))
    return played


def passes(tools: Sequence[Tool], runs: Sequence[Run]) -> int:
    """How many runs `play` will report as done."""
    return len(runs) * len({tool.compares for tool in tools})


def _one_thread() -> None:
    """Each worker has one core; torch would take them all."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


def _chunks(runs: Sequence[Run]) -> Iterator[Sequence[Run]]:
    return (runs[i : i + CHUNK] for i in range(0, len(runs), CHUNK))


def _task(tools: Sequence[Tool], runs: Sequence[Run]) -> tuple[list[Verdicts], dict[str, int]]:
    pads: list[dict[str, Any]] = [{} for _ in tools]
    verdicts: list[Verdicts] = [{} for _ in tools]
    rows: dict[str, int] = {}
    for run in runs:
        setup, points = stream.read(run.path, run.total_rows)
        rows[run.id] = run.total_rows or (points[-1].row + 1 if points else 0)
        for tool, pad, found in zip(tools, pads, verdicts, strict=True):
            found[run.id] = ours(run) if tool.peer is None else fed(tool, setup._replace(program=pad), points)
    return verdicts, rows


def fed(tool: Tool, setup: Setup, points: Sequence[Point]) -> Verdict:
    """The first verdict of a peer."""
    assert tool.peer is not None
    feed = tool.peer.make(setup, **dict(tool.limits))
    for point in points:
        why = feed(point)
        if why is not None:
            return Verdict(point.row if tool.peer.kind == "stop" else None, point.row, why)
    return Verdict()


def ours(run: Run) -> Verdict:
    """What the daemon would have done: a kill stops, a kill or an alert is a word."""
    case = replay.read(run.path).case
    aloud = [finding for finding in case.findings if finding.action is not Action.NONE]
    stop = case.kill.row if case.kill else None
    why = case.kill.rule if case.kill else ", ".join(sorted({finding.rule for finding in aloud}))
    return Verdict(stop, min((finding.row for finding in aloud), default=None), why)


def tuned(peers: Sequence[Peer], runs: Sequence[Run], *, jobs: int | None, tell: Callable[[int], None]) -> list[Tool]:
    """Each peer at its best on `runs`.

    Best is the highest recall of hard faults among the limits that are wrong about at most 1 % of the must-live runs;
    if none is, the limits with the fewest such runs. Whoever is equal stays closest to the documents.
    """
    tools = [Tool(peer, tuple(limits.items()), tuned=True) for peer in peers for limits in peer.variants()]
    chosen = sample(runs, TUNED_ON)
    played = play(tools, chosen, jobs=jobs, tell=tell)
    best: dict[str, tuple[tuple[float, ...], Tool]] = {}
    for tool, verdicts in zip(tools, played.verdicts, strict=True):
        worth = _worth(verdicts, chosen)
        if tool.name not in best or worth > best[tool.name][0]:
            best[tool.name] = (worth, tool)
    return [tool for _, tool in best.values()]


def tuning_passes(peers: Sequence[Peer], runs: Sequence[Run]) -> int:
    return passes([documented(peer) for peer in peers], sample(runs, TUNED_ON))


def _worth(verdicts: Verdicts, runs: Sequence[Run]) -> tuple[float, ...]:
    """Larger is better: within the bound first, then recall, then few false words."""
    false = sum(_wrong(verdicts[run.id], run.label) for run in runs)
    hits = sum(verdicts[run.id].seen is not None for run in runs if run.label in HARD)
    live = sum(run.label in MUST_LIVE for run in runs)
    return (1, hits, -false) if false <= FALSE * live else (0, -false, hits)


def _wrong(verdict: Verdict, label: str) -> bool:
    return (label in MUST_LIVE and verdict.stop is not None) or (label in QUIET and verdict.seen is not None)


def choose(names: Sequence[str] | None) -> tuple[list[Peer], list[Peer]]:
    """The peers that can be run here, and those whose package is not installed."""
    wanted = [peer for peer in PEERS if not names or any(name.lower() in peer.name.lower() for name in names)]
    return [peer for peer in wanted if peer.version is not None], [peer for peer in wanted if peer.version is None]
