"""Faults of the clock need real processes: one real daemon over hundreds of runs that hang, crash, slow down or pause.

    python tests/bench/live.py [--waves 3] [--runs 150] [--seed 1] [--keep FOLDER]

Labels are known by construction: each run writes down when its fault set in. Half of the programs were looked at while
the rules were written; the other half is only scored.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed

from latency import machine
from live_runs import CRASHES, HANGS, LOOKED, PROGRAMS, SCORED, Member, born

import contract
from checker import rows
from checker.backtest import interval
from checker.detectors import stall
from checker.history import History
from checker.journal import entries

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "live.md"

WAVE = 300.0
"""Seconds: a fault within the first minute, certainty three minutes later, half a minute until the process is gone."""
FREEZE_AT, FREEZE = 45.0, 200.0
"""When the machine falls asleep in the last wave, and for how long: longer than it takes to be certain of a stall."""
FROZEN_WAVE = 275.0
LAST = 12.0
"""Seconds for which the daemon goes on watching after the runs of a wave are done."""
STAGGER = 0.05

SHARES = {
    "hang": 20,
    "hang-evaluating": 4,
    "poll": 2,
    "crash": 16,
    "slow": 12,
    "suspended": 12,
    "pause": 8,
    "upload": 6,
}
"""Of 150 runs; the others are simply healthy."""
RULES = ("stall", "crash", "throughput")


# -------------------------------------------------------------------------------------------------------- plans


def wave(number: int, size: int, seed: int) -> list[Member]:
    """The runs of a wave; every kind goes round the programs."""
    kinds = [kind for kind, share in SHARES.items() for _ in range(round(share * size / 150))]
    kinds += ["healthy"] * (size - len(kinds))
    chance = random.Random(f"{seed} {number}")
    evaluating = [program for program in PROGRAMS if program.evaluate and program.evaluate.announced]
    found = []
    for place, kind in enumerate(kinds):
        crowd = evaluating if kind == "hang-evaluating" else PROGRAMS
        program = crowd[(place + 5 * number) % len(crowd)]
        found.append(_member(f"{number}-{place:03d}-{program.name}-{kind}", program, kind, chance))
    return found


def _member(id_: str, program: Any, kind: str, chance: random.Random) -> Member:
    at = {"slow": (60, 75), "upload": (35, 60), "hang-evaluating": (70, 95)}.get(kind, (30, 60))
    lasting = {"upload": (65, 100), "suspended": (20, 90)}.get(kind, (20, 50))
    early = kind == "healthy" and chance.random() < 0.3
    until = chance.uniform(80, 160) if early else WAVE - LAST - chance.uniform(1, 6)
    how = chance.choice(CRASHES if kind == "crash" else HANGS)
    when, length = chance.uniform(*at), chance.uniform(*lasting)
    return Member(id_, program, kind, how, when, length, until, chance.randrange(1 << 30))


def sleepers(size: int, seed: int) -> list[Member]:
    """Healthy runs on a machine that falls asleep, with the daemon and all."""
    chance = random.Random(f"{seed} frozen")
    crowd = [PROGRAMS[place % len(PROGRAMS)] for place in range(size)]
    ids = [f"f-{place:03d}-{program.name}-frozen" for place, program in enumerate(crowd)]
    made = [_member(id_, program, "frozen", chance) for id_, program in zip(ids, crowd, strict=True)]
    return [member._replace(until=FROZEN_WAVE - LAST - chance.uniform(1, 6)) for member in made]


# ------------------------------------------------------------------------------------------------------ running


class Load(NamedTuple):
    """What a wave cost, and how late a sleeper woke."""

    runs: int
    cores: float
    daemon: float
    late: float
    latest: float


@dataclass
class Wave:
    """Processes in flight."""

    began: float
    pids: dict[int, Member] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    acts: list[tuple[float, int, int]] = field(default_factory=list)
    """When, to whom, which signal."""
    late: list[float] = field(default_factory=list)
    closed: float = 0.0

    def reap(self) -> None:
        for pid in list(self.pids):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self.ended[self.pids.pop(pid).id] = time.time()

    def act(self) -> None:
        now = time.monotonic() - self.began
        while self.acts and self.acts[0][0] <= now:
            _, pid, signum = self.acts.pop(0)
            if pid in self.pids or pid < 0:
                os.kill(abs(pid), signum)

    def end(self) -> None:
        """Kills whoever is left; what is said from now on does not count."""
        self.closed = time.time()
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)
        self.pids.clear()


def play(members: Sequence[Member], seconds: float, root: Path, truth: Path, daemon: int) -> tuple[Wave, Load]:
    """Runs a wave to its end."""
    flight, cpu = Wave(time.monotonic()), (_cpu(None), _cpu(daemon))
    try:
        for member in members:
            pid = born(member, root / member.id, truth / f"{member.id}.jsonl")
            flight.pids[pid] = member
            if member.kind == "suspended":
                at = time.monotonic() - flight.began + member.at
                flight.acts += [(at, pid, signal.SIGSTOP), (at + member.lasting, pid, signal.SIGCONT)]
            _tick(flight, STAGGER)
        flight.acts += _freeze(flight, daemon) if members[0].kind == "frozen" else []
        flight.acts.sort()
        while time.monotonic() - flight.began < seconds:
            _tick(flight, 0.2)
        lasted = time.monotonic() - flight.began
        used = [(after - before) / lasted for before, after in zip(cpu, (_cpu(None), _cpu(daemon)), strict=True)]
        late = sorted(flight.late)
        return flight, Load(len(members), used[0], used[1], 1000 * statistics.median(late), 1000 * late[-1])
    finally:
        flight.end()


def _tick(flight: Wave, seconds: float) -> None:
    before = time.monotonic()
    time.sleep(seconds)
    flight.late.append(time.monotonic() - before - seconds)
    flight.reap()
    flight.act()


def _freeze(flight: Wave, daemon: int) -> list[tuple[float, int, int]]:
    """Everybody sleeps and wakes; the daemon (negative: not one of the runs) wakes first, which is the hard case."""
    everybody = [-daemon, *flight.pids]
    return [
        (FREEZE_AT + part * FREEZE, pid, signum)
        for part, signum in enumerate((signal.SIGSTOP, signal.SIGCONT))
        for pid in everybody
    ]


def _cpu(pid: int | None) -> float:
    """Seconds of processor time used, by one process or by the whole machine."""
    place = Path(f"/proc/{pid}/stat") if pid else Path("/proc/stat")
    if not place.exists():
        return 0.0
    fields = place.read_text().rpartition(")")[2].split()
    ticks = fields[11:13] if pid else [*fields[1:4], *fields[6:9]]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def everything(options: argparse.Namespace, place: Path) -> tuple[list[Told], list[Load], float]:
    """All waves under one daemon."""
    root, truth = place / "runs", place / "truth"
    root.mkdir()
    truth.mkdir()
    began, told, loads = time.monotonic(), [], []
    command = [sys.executable, "-m", "checker", "watch", str(root), "--while-pid", str(os.getpid())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (place / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        waves = [(wave(number, options.runs, options.seed), WAVE) for number in range(options.waves)]
        waves += [(sleepers(options.runs // 3, options.seed), FROZEN_WAVE)] if options.frozen else []
        for members, seconds in waves:
            print(f"{len(members)} runs, {seconds:.0f} s", flush=True)
            flight, load = play(members, seconds, root, truth, daemon.pid)
            told += [read(member, root, truth, flight) for member in members]
            loads.append(load)
            print(f"  {load.cores:.2f} cores, of which the daemon {load.daemon:.2f}", flush=True)
    finally:
        daemon.send_signal(signal.SIGCONT)
        daemon.terminate()
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    return told, loads, time.monotonic() - began


# ------------------------------------------------------------------------------------------------------ reading


class Word(NamedTuple):
    """Something that the checker said or did."""

    at: float
    rule: str
    what: str
    """`alert` or `kill` of a finding, or the act `requested`."""
    text: str


class Told(NamedTuple):
    """A run, what became of it, and what was said about it while it was there."""

    member: Member
    onset: float | None
    words: tuple[Word, ...]
    gone: float | None
    """When its process had ended."""
    gap: float
    """Its median gap between two rows before the fault."""
    limit: float
    """The silence that the rule allowed it at the onset."""
    closed: float
    """When its wave was over."""

    def first(self, what: Iterable[str], rules: Iterable[str] = RULES) -> float | None:
        """When, in seconds after the onset, such a word was first said."""
        since = self.onset or 0.0
        return min(
            (w.at - since for w in self.words if w.what in what and w.rule in rules and w.at >= since), default=None
        )

    def due(self, seconds: float) -> bool:
        """Whether so much time was left after the onset, and a little for a look and a journal."""
        return self.onset is not None and self.closed - self.onset > seconds + 3

    @property
    def too_soon(self) -> list[Word]:
        """Words about the clock before there was a reason: about a healthy run, all."""
        faulty = self.member.faulty and self.onset
        return [word for word in self.words if word.rule in RULES and (not faulty or word.at < (self.onset or 0))]


def read(member: Member, root: Path, truth: Path, flight: Wave) -> Told:
    """What is known about a run when its wave is over."""
    happened: dict[str, float] = {}
    with suppress(FileNotFoundError):
        for line in (truth / f"{member.id}.jsonl").read_text().splitlines():
            happened = {**json.loads(line), **happened}
    onset = happened.get("onset")
    words = tuple(word for word in map(_word, entries(root / member.id)) if word and word.at <= flight.closed)
    gone = None if "ended" in happened else flight.ended.get(member.id)
    gap, limit = _silence(root / member.id / contract.METRICS, onset or flight.closed)
    return Told(member, onset, words, gone, gap, limit, flight.closed)


def _word(entry: dict[str, Any] | None) -> Word | None:
    if not entry or not ("severity" in entry or entry.get("act") == "requested"):
        return None
    what = entry.get("action") or entry["act"]
    if what == "none":
        return None
    return Word(rows.seconds(entry["at"]) or 0.0, entry["rule"], what, entry.get("summary") or entry.get("text", ""))


def _silence(path: Path, onset: float) -> tuple[float, float]:
    """The median gap between rows before the onset, and the silence that the rule then allows."""
    history, at = History(), []
    for place, line in enumerate(path.read_bytes().splitlines() if path.exists() else ()):
        row = rows.decode(line, place, place + 1)
        if isinstance(row, rows.Row) and row.at is not None and row.at <= onset:
            history.fold(row)
            at.append(row.at)
    gaps = [after - before for before, after in itertools.pairwise(at)]
    return statistics.median(gaps) if gaps else float("nan"), stall._allowed(history, history.phase, stall.LIMITS)


# ------------------------------------------------------------------------------------------------------ scoring


class Class(NamedTuple):
    """Runs that are counted together, and what is wanted of the checker: a word, or a kill."""

    name: str
    has: Callable[[Member], bool]
    rules: tuple[str, ...]
    kill: bool = False


def _writes(member: Member, *writers: str) -> bool:
    return member.program.writer in writers


def _bare(member: Member, *, complete: bool) -> bool:
    return _writes(member, "lines") and member.program.complete is complete


FAULTS = (
    Class("hung", lambda m: m.kind == "hang" and _writes(m, "runlog"), ("stall",), kill=True),
    Class("hung in an announced evaluation", lambda m: m.kind == "hang-evaluating", ("stall",), kill=True),
    Class("hung, status by hand", lambda m: m.kind == "hang" and _writes(m, "status"), ("stall",)),
    Class("hung, lines with a length", lambda m: m.kind == "hang" and _bare(m, complete=True), ("stall",)),
    Class("hung, lines alone", lambda m: m.kind == "hang" and _bare(m, complete=False), ("stall",)),
    Class("hung, but busy", lambda m: m.kind == "poll", ("stall",)),
    Class("crashed", lambda m: m.kind == "crash" and not _writes(m, "lines"), ("crash",)),
    Class("crashed, lines with a length", lambda m: m.kind == "crash" and _bare(m, complete=True), ("stall",)),
    Class("crashed, lines alone", lambda m: m.kind == "crash" and _bare(m, complete=False), ("stall",)),
    Class("four times as slow", lambda m: m.kind == "slow", ("throughput",)),
)

HEALTHY = (
    Class("healthy", lambda m: m.kind == "healthy", RULES),
    Class("suspended for 20 to 90 s", lambda m: m.kind == "suspended", RULES),
    Class("pauses once, 20 to 50 s", lambda m: m.kind == "pause", RULES),
    Class("pauses once, 65 to 100 s", lambda m: m.kind == "upload", RULES),
    Class(f"asleep with the machine for {FREEZE:.0f} s", lambda m: m.kind == "frozen", RULES),
)

SPOKEN, KILLED = ("alert", "kill"), ("requested",)


def share(hits: int, of: int) -> str:
    if not of:
        return "-"
    low, high = interval(hits, of)
    return f"{hits} of {of} ({low:.1%} to {high:.1%})"


def spread(values: Sequence[float]) -> str:
    """Median and maximum."""
    return f"{statistics.median(values):.1f}, {max(values):.1f}" if values else "-"


FAULT_HEAD = (
    "fault", "programs", "runs", "seen, of those due", "killed, of those due",
    "delay of the word, s", "in gaps", "of the kill, s", "in gaps", "gone",
)  # fmt: skip


def fault_lines(told: Sequence[Told]) -> list[tuple[str, ...]]:
    found = []
    for class_ in FAULTS:
        for half in (LOOKED, SCORED):
            runs = [t for t in told if class_.has(t.member) and t.member.program.half == half and t.onset]
            if runs:
                found.append((class_.name, half, *_fault_line(class_, runs)))
    return found


def _fault_line(class_: Class, runs: Sequence[Told]) -> tuple[str, ...]:
    words = [(t, delay) for t in runs if (delay := t.first(SPOKEN, class_.rules)) is not None]
    kills = [(t, delay) for t in runs if (delay := t.first(KILLED, class_.rules)) is not None]
    gone = [t.gone - t.onset for t, _ in kills if t.gone and t.onset]
    in_gaps = [spread([delay / t.gap for t, delay in some]) for some in (words, kills)]
    seconds = [spread([delay for _, delay in some]) for some in (words, kills)]
    silent = class_.rules == ("stall",)
    seen = _of_due(words, [t for t in runs if not silent or t.due(t.limit)])
    sure = stall.LIMITS
    killed = _of_due(kills, [t for t in runs if t.due(max(sure.sure_times * t.limit, sure.sure_seconds))])
    told = seen, killed if class_.kill else str(len(kills))
    return str(len(runs)), *told, seconds[0], in_gaps[0], seconds[1], in_gaps[1], spread(gone)


def _of_due(found: Sequence[tuple[Told, float]], due: Sequence[Told]) -> str:
    """Of the runs whose limit had passed before their wave was over."""
    had = {t.member.id for t, _ in found}
    return share(sum(t.member.id in had for t in due), len(due))


HEALTHY_HEAD = ("healthy runs", "programs", "killed", "any word", "stall", "crash", "throughput")


def healthy_lines(told: Sequence[Told]) -> list[tuple[str, ...]]:
    found = []
    for half in (LOOKED, SCORED):
        groups = [(class_.name, class_.has) for class_ in HEALTHY] + [("all", lambda m: not m.faulty)]
        for name, has in groups:
            runs = [t for t in told if has(t.member) and t.member.program.half == half]
            found += [(name, half, *_healthy_line(runs))] if runs else []
    return found


def _healthy_line(runs: Sequence[Told]) -> tuple[str, ...]:
    killed = sum(t.first(("kill", "requested")) is not None for t in runs)
    named = sum(bool(t.too_soon) for t in runs)
    by_rule = [str(sum(any(word.rule == rule for word in t.too_soon) for t in runs)) for rule in RULES]
    return share(killed, len(runs)), share(named, len(runs)), *by_rule


PROGRAM_HEAD = (
    "program", "programs", "writes", "healthy", "killed", "named", "hung", "seen", "killed", "crashed", "seen", "slow",
    "seen",
)  # fmt: skip


KINDS = (("hang", "hang-evaluating"), ("crash",), ("slow",))


def program_lines(told: Sequence[Told]) -> list[tuple[str, ...]]:
    return [_program_line(program, [t for t in told if t.member.program is program]) for program in PROGRAMS]


def _program_line(program: Any, runs: Sequence[Told]) -> tuple[str, ...]:
    def count(runs: Sequence[Told], what: Iterable[str], *rules: str) -> int:
        return sum(t.first(what, rules) is not None for t in runs)

    healthy = [t for t in runs if not t.member.faulty]
    hung, crashed, slow = ([t for t in runs if t.member.kind in kinds and t.onset] for kinds in KINDS)
    numbers = (
        len(healthy), count(healthy, ("kill", "requested"), *RULES), count(healthy, SPOKEN, *RULES),
        len(hung), count(hung, SPOKEN, "stall"), count(hung, KILLED, "stall"),
        len(crashed), count(crashed, SPOKEN, "crash", "stall"),
        len(slow), count(slow, SPOKEN, "throughput"),
    )  # fmt: skip
    return program.name, program.half, program.writer, *map(str, numbers)


def load_lines(loads: Sequence[Load]) -> list[tuple[str, ...]]:
    return [
        (str(runs), f"{cores:.2f}", f"{own:.2f}", f"{late:.1f}", f"{most:.0f}")
        for runs, cores, own, late, most in loads
    ]


LOAD_HEAD = ("runs at once", "cores in use", "of which the daemon", "a sleeper wakes late, ms, median", "maximum")


# ------------------------------------------------------------------------------------------------------ telling


LEGEND = """\
- Runs are processes that sleep instead of computing; twelve programs (habits of logging, pauses and jitter), and every
  run of one has its own pace. **looked at**: programs whose misses were read while rules were changed. **only scored**:
  programs that were not. Intervals are exact (Clopper-Pearson, 95 %); runs of one program are not independent.
- **seen**: an alert or more, by the rule that is meant, after the onset. **killed**: the request is written. **due**:
  the silence that the rule allows the run, or the multiple of it that makes it certain, was over before the wave was.
  Delays are median and maximum from the onset; **in gaps**: in units of the run's own median gap between rows;
  **gone**: until the process has ended, in seconds.
- **hung**: a lock that is never released, a read from a pipe that nobody writes, a sleep for ever. A kill is wanted.
  **but busy**: a loop that polls; by design certain only after half an hour, so a word is all that can be had here.
  With a **status by hand** the heartbeat stops with the loop, and a word is wanted. Where there are lines and nothing
  else, a hang, a crash and a good end look the same: only what declares its length can be told to have ended before it.
- **four times as slow**: named after a minute and some 24 rows, which the slowest writers do not reach in a wave.
- **suspended**: SIGSTOP, SIGCONT. That such a process does not move is said on purpose; killing it would be wrong.
  **asleep**: everything is stopped, the daemon included, and the daemon wakes first.
- **pauses once**: unannounced, idle, never before: an upload, a file server that restarts.
- **named**: any word of stall, crash or throughput about a healthy run. Other rules are not scored here.\
"""


def sections(told: Sequence[Told], loads: Sequence[Load]) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    return [
        ("Faults", FAULT_HEAD, fault_lines(told)),
        ("Healthy runs", HEALTHY_HEAD, healthy_lines(told)),
        ("By program", PROGRAM_HEAD, program_lines(told)),
        ("Load", LOAD_HEAD, load_lines(loads)),
    ]


def remarks(told: Sequence[Told]) -> list[str]:
    """What the tables do not say."""
    early = sum(t.member.faulty and bool(t.too_soon) for t in told)
    killed = sum(t.member.faulty and any(w.what == "requested" for w in t.too_soon) for t in told)
    unborn = sum(t.member.faulty and not t.onset for t in told)
    other = Counter(word.rule for t in told for word in t.words if word.rule not in RULES)
    return [
        f"Faulty runs named before their fault: {early}, killed: {killed}. Faults that never set in: {unborn}.",
        f"Words of other rules about all runs: {', '.join(f'{rule} {n}' for rule, n in other.items()) or 'none'}.",
    ]


def markdown(told: Sequence[Told], loads: Sequence[Load], seconds: float) -> str:
    kinds = Counter(t.member.kind for t in told)
    hung = sum(kinds[kind] for kind in ("hang", "hang-evaluating", "poll"))
    text = [
        "# Faults of the clock", "",
        f"{len(told)} real processes under one real daemon in {seconds / 60:.1f} minutes: {hung} hung,",
        f"{kinds['crash']} crashed, {kinds['slow']} slowed down, {sum(not t.member.faulty for t in told)} healthy.", "",
    ]  # fmt: skip
    for title, head, lines in sections(told, loads):
        text += [f"## {title}", "", *_table([head, tuple("---" for _ in head), *lines]), ""]
    date = datetime.now(UTC).date()
    return "\n".join([*text, LEGEND, "", *remarks(told), "", f"{machine()}; {date}. Made by `make bench-live`.", ""])


def _table(lines: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in lines]


def show(told: Sequence[Told], loads: Sequence[Load]) -> None:
    from rich.console import Console  # noqa: PLC0415  # not before the forks: it need not be in every run
    from rich.table import Table  # noqa: PLC0415

    console = Console(width=None if sys.stdout.isatty() else 200)
    for title, head, lines in sections(told, loads):
        table = Table(*head, title=title)
        for line in lines:
            table.add_row(*line)
        console.print(table)
    console.print(*remarks(told), sep="\n")


def misread(told: Sequence[Told]) -> Iterable[str]:
    """Every miss and every false word among the programs that may be looked at."""
    for t in told:
        if t.member.program.half == LOOKED:
            for word in t.too_soon:
                yield f"too soon: {t.member.id}: {word.what} {word.rule}: {word.text}"
            for class_ in FAULTS:
                wanted = KILLED if class_.kill else SPOKEN
                if t.onset and class_.has(t.member) and t.first(wanted, class_.rules) is None:
                    yield f"missed: {t.member.id} ({class_.name}, {t.member.how})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waves", type=int, default=3)
    parser.add_argument("--runs", type=int, default=150, help="in each wave")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--frozen", action=argparse.BooleanOptionalAction, default=True, help="a wave on a sleeping machine"
    )
    parser.add_argument(
        "--keep", type=Path, help="a new folder in which the runs are left behind; no result is written"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as spare:
        place = options.keep or Path(spare)
        place.mkdir(parents=True, exist_ok=True)
        told, loads, seconds = everything(options, place)
        show(told, loads)
        print(*misread(told), sep="\n")
        text = markdown(told, loads, seconds)
        (options.keep / "live.md" if options.keep else RESULT).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
