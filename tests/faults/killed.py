"""A real checker, killed at a chosen thing that it does to a file or a process and started again until all is settled.

Everything is forked from one warm interpreter, and the patience of the kill switch is cut to fractions of a second, so
that a trial takes about a second. What is patched is only numbers; what the checker does, it does in earnest.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import contract
from checker import cli, daemon, enforce, journal, leftovers, lock, reports, run
from checker.detectors import stall
from checker.feed import reader
from checker.feed.feed import Feed
from checker.report import checklist, pages
from checker.terms import Mode

FAST = (
    (enforce, "GRACE", 0.3), (enforce, "HUNG_GRACE", 0.2), (enforce, "DUMP_SECONDS", 0.1), (enforce, "TERM_GRACE", 0.8),
    (enforce, "LEAVE_SECONDS", 0.3), (enforce, "REASSERT_SECONDS", 0.1), (enforce, "RETRY_SECONDS", 0.1),
    (enforce, "ORPHAN_GRACE", 0.3), (daemon, "BEAT", 0.05), (run, "BEAT", 0.05), (run, "CHASE", 0.02),
    (reports, "FRESH_SECONDS", 0.5), (run, "SETTLE_SECONDS", 0.1), (run, "BUSY_SECONDS", 0.2), (run, "RESTS", ()),
    (leftovers, "_AGES", dict.fromkeys(leftovers._AGES, 0.0)),
)  # fmt: skip
LIMITS = {"stall": stall.Limits(floor_seconds=0.3, median_times=0.0, sure_times=1.0, sure_seconds=0.6)}

SETTLED_WITHIN = 60.0
"""Seconds for a checker that is not killed to bring everything to its end; it takes about two."""

LOADED = (checklist, pages)
"""What reports take, once for all processes that are forked."""

PLACES = ("journal", "feed", "request", "signal", "report", "other")
MANNERS = ("before", "half", "after")


@dataclass(frozen=True)
class Point:
    """Where a checker is to be killed: at the `number`th thing it does at a place, or after some seconds."""

    place: str
    number: int = 0
    manner: str = "before"
    seconds: float = 0.0


# ------------------------------------------------------------------------------------------------------ the killer


class Killer:
    """Counts what this process does to files and processes, and ends it with SIGKILL at one of these things."""

    def __init__(self, point: Point, note: Path) -> None:
        self.point, self.note, self.counts, self.names = point, note, Counter(), {}
        self.write = os.write

    def arm(self) -> None:
        for module, name, which in (
            (os, "write", self._of_fd), (os, "fsync", self._of_fd), (os, "open", self._of_open),
            (os, "replace", self._of_path), (os, "rename", self._of_path), (os, "link", self._of_path),
            (os, "unlink", self._of_path), (os, "truncate", self._of_path), (contract, "exchange", self._of_path),
            (signal, "pidfd_send_signal", self._of_signal),
        ):  # fmt: skip
            setattr(module, name, self._counted(getattr(module, name), which))

    def _counted(self, function, which):
        def call(*arguments, **named):
            place = which(arguments)
            if place is None:
                found = function(*arguments, **named)
                if function.__name__ == "open":
                    self.names.pop(found, None)
                return found
            self.counts[place] += 1
            if (place, self.counts[place]) != (self.point.place, self.point.number):
                found = function(*arguments, **named)
            else:
                self._die(function, arguments, named)
            if function.__name__ == "open":
                self.names[found] = place
            return found

        return call

    def _die(self, function, arguments, named):
        if self.point.manner == "after":
            function(*arguments, **named)
        elif self.point.manner == "half" and function is self.write:
            self.write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
        self.note.write_text(function.__name__)
        os.kill(os.getpid(), signal.SIGKILL)

    def _of_fd(self, arguments):
        return self.names.get(arguments[0])

    def _of_open(self, arguments):
        place = self._of_path(arguments)
        writing = len(arguments) > 1 and arguments[1] & (os.O_WRONLY | os.O_RDWR)
        return place if writing else None

    @staticmethod
    def _of_path(arguments):
        name = os.path.basename(os.fspath(arguments[0]))
        if name == contract.FINDINGS:
            return "journal"
        if name == contract.EVENTS:
            return "feed"
        if contract.STATUS in name:
            return "request"
        pages = (contract.DIAGNOSIS, contract.CURVE, contract.NEXT, contract.CHECKLIST)
        return "report" if any(page in name for page in pages) else "other" if name.endswith(".tmp") else None

    @staticmethod
    def _of_signal(arguments):
        return "signal" if arguments[1] else None


# ---------------------------------------------------------------------------------------------------- the trainers


def train(folder: Path, manner: str) -> None:
    """A trainer whose rows are written already; it tells what it was sent in `heard.jsonl`."""
    status, ack, begun = contract.StatusFile(folder), None, contract.now()
    heard = os.open(folder / "heard.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def hear(**what):
        os.write(heard, contract.encode(what) + b"\n")

    def listen(signum, _frame):
        hear(signal=signal.Signals(signum).name)

    if manner in ("deaf", "hung"):
        signal.signal(signal.SIGTERM, listen)
        signal.signal(signal.SIGUSR1, listen)

    def tell(state):
        def change(document):
            kept = {"kill": document["kill"]} if "kill" in document else {}
            beat = {"heartbeat_at": contract.now(), "progress_at": begun if manner == "hung" else contract.now()}
            dumps = int(signal.SIGUSR1) if manner in ("deaf", "hung") else None
            me = {"process": asdict(contract.this_process()), "stack_signal": dumps}
            about = {"run_id": f"{folder.name}-1", "step": 30, "phase": "train", "started_at": begun}
            return {"v": 1, "state": state, "ack": ack, **about, **beat, **me, **kept}

        with suppress(contract.StatusBusy):
            status.edit(change)

    asked = set()
    for turn in range(100_000):
        if turn % 10 == 0:
            tell("running")
        kill = contract.pending_kill(status.read() or {})
        if kill is not None and kill.id not in asked:
            asked.add(kill.id)
            hear(kill=kill.id)
        if kill is not None and manner == "obeys":
            ack = {"id": kill.id, "at": contract.now(), "step": 30}
            tell("running")
            time.sleep(0.05)
            tell("killed")
            os._exit(3)
        time.sleep(0.01)


RUNS = {
    "obeys": ("nan", 3),
    "deaf": ("nan", -signal.SIGKILL),
    "mute": ("nan", -signal.SIGTERM),
    "hung": ("well", -signal.SIGKILL),
    "recovers": ("recovers", None),
    "overfits": ("overfits", None),
    "crashed": ("well", None),
    "ended": ("well", None),
}
"""Each run: what its rows tell, and how its process ends; None for one without."""


def _rows(kind: str, name: str, now: float):
    for step in range(200 if kind == "overfits" else 30):
        loss = 2.0 - step / 100 + (step * 7919 % 13) / 1000
        values = {"train_loss": loss, "grad_norm": 1.0}
        if kind == "overfits":
            values["val_loss"] = 1.0 + abs(step - 30) / 10
        at = contract.datetime.fromtimestamp(now - 20 + step * 0.1, contract.UTC).isoformat()
        yield {"event": "step", "timestamp": at, "run_id": f"{name}-1", "step": step, "metrics": values}
    if kind in ("nan", "recovers"):  # after the trainer will have begun, however slow the machine is
        at = contract.datetime.fromtimestamp(now + 60, contract.UTC).isoformat()
        for step, loss in enumerate(["NaN", *([1.7] * 20 if kind == "recovers" else [])], 30):
            values = {"train_loss": loss, "grad_norm": loss if loss == "NaN" else 1.0}
            yield {"event": "step", "timestamp": at, "run_id": f"{name}-1", "step": step, "metrics": values}


def _gone() -> contract.Process:
    pid = os.fork()
    if not pid:
        time.sleep(60)
    named = replace(contract.this_process(), pid=pid, started=contract.process_started(pid))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return named


def prepare(root: Path) -> dict[str, int]:
    """The runs below `root`; returns the process of each that has one."""
    pids, now = {}, time.time()
    for name, (kind, code) in RUNS.items():
        folder = root / name
        folder.mkdir(parents=True)
        rows = b"".join(contract.encode(row) + b"\n" for row in _rows(kind, name, now))
        (folder / contract.METRICS).write_bytes(rows)
        if code is not None:
            pids[name] = _forked(lambda folder=folder, name=name: train(folder, name))
        else:
            state = "running" if name in ("crashed", "recovers") else "completed"
            document = {"state": state, "run_id": f"{name}-1", "step": 30, "started_at": contract.now()}
            document["process"] = asdict(_gone()) if name == "crashed" else None
            # Nobody sees it move: for its silence not to be told, it must not be silent as long as the trial lasts.
            document["progress_at"] = contract.datetime.fromtimestamp(now + 3600, contract.UTC).isoformat()
            contract.replace(folder / contract.STATUS, contract.encode(document))
    while not all((root / name / contract.STATUS).exists() for name in pids):
        time.sleep(0.002)
    return pids


# ------------------------------------------------------------------------------------------------------- a trial


def _forked(work) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 0
    try:
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, signal.SIG_DFL)
        work()
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as a copy of its parent
        traceback.print_exc()
        code = 99
    sys.stderr.flush()
    os._exit(code)


def _watch(root: Path, point: Point | None, counts: Path | None = None) -> None:
    """A checker over `root`, until everything has come to its end."""
    for module, name, value in FAST:
        setattr(module, name, value)
    killer = Killer(point or Point("nowhere"), root.parent / "point")
    killer.arm()
    report, summarize = cli._reporter(root)
    told = []
    watch = daemon.Daemon(
        root, mode=Mode.ACT, limits=LIMITS, poll=0.1, on_change=report, on_changes=summarize, tell=told.extend
    )
    watch.feed = Feed(root)
    deadline = time.monotonic() + SETTLED_WITHIN
    rounds = 0

    def settled():
        nonlocal rounds
        over = watch.quiet and {*watch.runs, *watch._asleep} == {root / name for name in RUNS}
        over = over and all(_at_rest(one) for one in watch.runs.values()) and watch.reports.idle
        rounds = rounds + 1 if over else 0
        return rounds > 8 or time.monotonic() > deadline

    with lock.only_one(root):
        watch.run(settled)
    if counts is not None:
        counts.write_text(json.dumps(killer.counts))
    troubles = [notice.text for notice in told if re.search("cannot be judged|report cannot", notice.text)]
    if troubles or rounds <= 8:
        print(f"unsettled: {rounds <= 8}; {troubles}", file=sys.stderr)
        os._exit(98)


def _at_rest(one) -> bool:
    return one.name == "recovers" or (one.over and not one.urgent)


def killed(place: Path, points: list[Point]) -> tuple[list[str], list[str]]:
    """Kills a checker at each of `points` in turn, then lets one come to the end.

    Returns:
        What was hit, and which laws were broken.
    """
    root = place / "runs"
    pids = prepare(root)
    hits, broken = [], []
    halves = 0
    try:
        for point in points:
            (place / "point").unlink(missing_ok=True)
            pid = _forked(lambda point=point: _watch(root, point))
            if point.seconds:
                time.sleep(point.seconds)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code == -signal.SIGKILL:
                what = (place / "point").read_text() if (place / "point").exists() else ""
                halves += point.manner == "half" and what == "write"
                hits.append(f"{point.place} {point.manner} {what}".strip())
            elif code:
                broken.append(f"a checker ended with code {code}")
        code = os.waitstatus_to_exitcode(os.waitpid(_forked(lambda: _watch(root, None, place / "counts")), 0)[1])
        if code:
            broken.append(f"the last checker ended with code {code}")
        broken += laws(root, pids, halves)
        hits += [UNSENT] * any(entry.get("act") == "sigkill" for entry in journal.entries(root / "mute") if entry)
    finally:
        for pid in pids.values():
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    return hits, broken


# ------------------------------------------------------------------------------------------------------- the laws

FOUND = {
    "obeys": {"obeys-1/nonfinite/0/critical"},
    "deaf": {"deaf-1/nonfinite/0/critical"},
    "mute": {"mute-1/nonfinite/0/critical"},
    "hung": {"hung-1/stall/0/critical"},
    "crashed": {"crashed-1/crash/0/critical"},
    "ended": set(),
}
"""What must be found; of `recovers` and `overfits` whatever an undisturbed checker finds."""

ACTS = {
    "obeys": ["looked-again", "requested", "acknowledged", "stopped"],
    "deaf": ["looked-again", "requested", "stack-dump", "sigterm", "sigkill", "stopped"],
    "mute": ["looked-again", "requested", "sigterm", "stopped"],
    "hung": ["looked-again", "requested", "stack-dump", "sigterm", "sigkill", "stopped"],
    "recovers": ["recovered-before-act"],
    "overfits": [],
    "crashed": [],
    "ended": [],
}

UNSENT = "journaled, but not sent"
"""A checker that is killed between the journal and the signal never sends that SIGTERM: a second one could do harm, and
nobody can tell whether there was a first. Then SIGKILL follows after the usual patience, which is sent again if need
be. Told apart by a run that SIGTERM alone would have ended."""

UNDISTURBED: dict[str, set[str]] = {}
"""What an undisturbed checker finds in the runs that do not depend on the clock; filled by `learn`."""


def learn(place: Path) -> dict[str, int]:
    """Lets a checker work undisturbed; returns how many things it does at each place."""
    _, broken = killed(place, [])
    if broken:
        raise AssertionError(broken)
    for name in ("recovers", "overfits"):
        UNDISTURBED[name] = {entry["id"] for entry in journal.entries(place / "runs" / name) if _is_found(entry)}
    return json.loads((place / "counts").read_text())


def _is_found(entry) -> bool:
    return entry is not None and entry["kind"] in ("finding", "recovered")


def laws(root: Path, pids: dict[str, int], halves: int) -> list[str]:
    """A sentence for each law that is broken below `root`."""
    broken, torn, trainers = [], 0, list(pids.values())
    for name, (_, ends) in RUNS.items():
        folder, code = root / name, ends
        entries = list(journal.entries(folder))
        torn += entries.count(None)
        found = Counter(entry["id"] for entry in entries if _is_found(entry))
        # A checker that was away while a suspicion became certain never saw it as a suspicion.
        must = FOUND.get(name, UNDISTURBED.get(name, set(found)))
        lost, strange = must - set(found), {key for key in found if key not in must and not key.endswith("/warning")}
        doubled = [key for key, count in found.items() if count > 1]
        acts = [entry for entry in entries if entry and entry["kind"] == "act"]
        did = [entry["act"] for entry in acts]
        if lost or strange or doubled:
            broken.append(f"{name}: lost {sorted(lost)}, strange {sorted(strange)}, doubled {doubled}")
        if name == "mute" and "sigkill" in did:  # see UNSENT
            did.remove("sigkill")
            code = -signal.SIGKILL
        if did != ACTS[name]:
            broken.append(f"{name}: acts {did}")
        if code is not None:
            broken += _law_of_process(folder, pids.pop(name), code, acts)
        elif "kill" in (contract.StatusFile(folder).read() or {}):
            broken.append(f"{name}: was asked to stop")
    # A trainer that was ended by force has left its own; they are not touched for a day.
    own = {f".{contract.STATUS}.{pid}." for pid in trainers}
    left = [str(path.relative_to(root)) for path in root.rglob(".*.tmp") if not path.name.startswith(tuple(own))]
    if left:
        broken.append(f"left behind: {left}")
    if torn > halves:
        broken.append(f"{torn} unreadable journal lines after {halves} torn writes")
    return broken + _law_of_reports(root) + _law_of_the_feed(root)


def _law_of_the_feed(root: Path) -> list[str]:
    """Whatever is journaled was told to whoever waits outside, once."""
    told = Counter(line["key"] for line in reader.Reader(root / contract.EVENTS).read() if "key" in line)
    feed = Feed(root)
    entries = {name: [entry for entry in journal.entries(root / name) if entry] for name in RUNS}
    missing = [name for name in RUNS if not feed.knows(root / name, entries[name])]
    feed.close()
    doubled = [key for key, count in told.items() if count > 1]
    return [f"not told: {missing}"] * bool(missing) + [f"told again: {doubled}"] * bool(doubled)


def _law_of_process(folder: Path, pid: int, code: int, acts) -> list[str]:
    gone, state = os.waitpid(pid, os.WNOHANG)
    if not gone:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return [f"{folder.name}: was not stopped"]
    broken = [f"{folder.name}: ended with {os.waitstatus_to_exitcode(state)}"] * (
        os.waitstatus_to_exitcode(state) != code
    )
    lines = (folder / "heard.jsonl").read_text().splitlines()
    heard = Counter(next(iter(json.loads(line).values())) for line in lines)
    ids = {entry["kill"] for entry in acts if entry["act"] == "requested"}
    asked = {what for what in heard if not what.startswith("SIG")}
    if asked - ids:
        broken.append(f"{folder.name}: was asked under {asked}, the journal says {ids}")
    broken += [f"{folder.name}: heard {what} {count} times" for what, count in heard.items() if count > 1]
    return broken


def _law_of_reports(root: Path) -> list[str]:
    """Every page says what a checker says that looks at these files now."""
    pages = (contract.DIAGNOSIS, contract.CURVE, contract.NEXT)
    before = {path: path.read_bytes() for name in RUNS for page in pages if (path := root / name / page).exists()}
    if not (root / contract.CHECKLIST).exists():
        return ["no checklist"]
    before[root / contract.CHECKLIST] = (root / contract.CHECKLIST).read_bytes()
    report, summarize = cli._reporter(root)
    for name in RUNS:
        one = run.Run(root / name, name, Mode.JUDGE, LIMITS)
        one.turn(run.Moment.now())
        report(one)
    for _ in summarize():
        pass
    missing = [name for name in RUNS if root / name / contract.DIAGNOSIS not in before]
    stale = []
    for path, data in before.items():
        if path.read_bytes() != data:
            stale.append(str(path.relative_to(root)))
            path.with_name(f"{path.name}.before").write_bytes(data)  # for whoever wants to know
    return [f"no report: {missing}"] * bool(missing) + [f"not current: {stale}"] * bool(stale)


# ------------------------------------------------------------------------------------------------------ the points


def points(counts: dict[str, int], number: int, seed: int) -> list[list[Point]]:
    """Where to kill in each of `number` trials: first each thing that is done to journal, request and process."""
    chance = random.Random(f"kills {seed}")
    each = [
        [Point(place, count, manner)]
        for place in ("journal", "request", "signal")
        for count in range(1, counts.get(place, 0) + 1)
        for manner in MANNERS
        if not (place == "signal" and manner == "half")
    ]
    chance.shuffle(each)
    while len(each) < number:
        each.append([_any(counts, chance) for _ in range(chance.choice((1, 1, 2, 3)))])
    return each[:number]


def _any(counts: dict[str, int], chance: random.Random) -> Point:
    if chance.random() < 0.3:
        return Point("time", seconds=chance.uniform(0.01, 2.0))
    place = chance.choice([place for place in PLACES if counts.get(place)])
    return Point(place, chance.randint(1, counts[place]), chance.choice(MANNERS))


@dataclass
class Tally:
    """What came of many trials."""

    trials: int = 0
    hits: Counter = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def many(place: Path, trials: list[list[Point]], jobs: int = 2, tell=lambda _: None) -> Tally:
    """All `trials`, some of them at a time."""
    tally, going = Tally(), {}
    waiting = list(enumerate(trials))
    while waiting or going:
        while waiting and len(going) < jobs:
            number, chosen = waiting.pop(0)
            home = place / f"trial-{number}"
            home.mkdir()
            going[_forked(lambda home=home, chosen=chosen: _trial(home, chosen))] = (home, chosen)
        pid, _ = os.wait()
        if pid not in going:
            continue
        home, chosen = going.pop(pid)
        result = home / "result.json"
        hits, broken = json.loads(result.read_text()) if result.exists() else ([], ["the trial itself fell over"])
        tally.trials += 1
        tally.hits.update(hits)
        tally.broken += [f"{chosen}: {sentence}" for sentence in broken]
        if broken:
            tell(f"{home}: {chosen}: {broken}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return tally


def _trial(home: Path, chosen: list[Point]) -> None:
    sys.stderr = (home / "errors").open("w")
    (home / "result.json").write_text(json.dumps(killed(home, chosen)))
