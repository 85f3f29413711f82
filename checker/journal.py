"""`findings.jsonl`: what was found, on what evidence, and what was done about it. Written before anything is touched.

A finding that came from a look at the clock is preceded by that look, so a replay can look again at the same moment.
The entries after the last `file` entry are about the metrics file as it is now; earlier ones are about a file that has
since been replaced, and stay as history.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

import contract
from checker import jsonlines
from checker.events import Event, Life, Rank, Row, Tick, Unreadable
from checker.judge import Effect, Found
from checker.rows import seconds

_PART = 1 << 16
"""Bytes at either end of a journal: a few dozen entries."""

Entry = dict[str, Any]


def made(kind: str, content: Mapping[str, Any]) -> Entry:
    """An entry as it stands in the file."""
    return {"v": contract.FORMAT, "kind": kind, **content, "at": contract.now()}


class Journal:
    """The journal of one run folder; the file is made by the first entry.

    It is opened anew for each entry. Entries are rare, ten thousand runs would be as many open files, and a folder that
    was deleted and made again has another file under the same name: evidence written to the old one would be lost.
    """

    def __init__(self, folder: Path, hear: Callable[[Entry], None] = lambda _: None) -> None:
        self.path = folder / contract.FINDINGS
        self._hear = hear
        """Is told of every entry, once it is written."""

    def write(self, kind: str, content: Mapping[str, Any], *, sync: bool = False) -> Entry:
        """Appends one entry and returns it; `sync` waits until it would survive a power cut.

        Raises:
            OSError: as `append`.
        """
        entry = made(kind, content)
        self.append([entry], sync=sync)
        return entry

    def append(self, entries: Sequence[Entry], *, sync: bool = False) -> None:
        """Appends entries, all of them or none; `sync` waits until they would survive a power cut.

        Raises:
            OSError: they could not be written; a pipe or a device under this name keeps no evidence either.
        """
        size = 0
        with suppress(FileNotFoundError):
            info = os.lstat(self.path)
            size = info.st_size
            if not stat.S_ISREG(info.st_mode):
                raise OSError(errno.EINVAL, "is no regular file; move it away", str(self.path))
        appender = contract.Appender(self.path, follow=False)
        try:
            for number, entry in enumerate(entries, 1):
                appender.append(entry, sync=sync and number == len(entries))
        except OSError:
            self._take_back(size)
            raise
        finally:
            appender.close()
        for entry in entries:
            self._hear(entry)

    def _take_back(self, size: int) -> None:
        """Removes what still fitted on a full disk: it will be written again, as a whole."""
        with suppress(OSError):
            fd = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_size > size:
                    os.ftruncate(fd, size)
            finally:
                os.close(fd)


@dataclass
class Past:
    """What a journal says about the metrics file as it is now."""

    told: set[str] = field(default_factory=set)
    """Keys of the effects that have been journaled."""
    ticks: list[tuple[int, Tick]] = field(default_factory=list)
    """The looks at the clock that mattered, each with the row it came after."""
    acts: list[Entry] = field(default_factory=list)
    file: str | None = None
    """Fingerprint of the metrics file that the entries are about; None when there are none."""
    unreadable: int = 0

    def acts_on(self, finding: str) -> list[Entry]:
        return [act for act in self.acts if act.get("finding") == finding]


def entries(folder: Path) -> Iterator[Entry | None]:
    """Every entry of a journal, None for each line that is none.

    Raises:
        contract.Unreadable: it is no plain file. Nothing can be told from it, so nothing may be done upon it.
        OSError: it cannot be read.
    """
    try:
        with jsonlines.opened(folder / contract.FINDINGS) as file:
            for line in jsonlines.lines_of(file):
                if line.strip():
                    yield _entry(line)
    except FileNotFoundError:
        return


def latest(folder: Path) -> list[Entry]:
    """The readable entries at the end of a journal, however long it is."""
    data = _part(folder, end=True)
    return [entry for line in data.splitlines() if (entry := _entry(line)) is not None]


def first_line(folder: Path) -> bytes:
    """The first line of a journal: it is never written again, and holds a time, so no other journal begins like it."""
    return _part(folder, end=False).partition(b"\n")[0]


def _part(folder: Path, *, end: bool) -> bytes:
    """The begin of a journal, or the whole lines at its end; empty when there is none."""
    try:
        fd = contract.open_plain(folder / contract.FINDINGS)
    except (OSError, contract.Unreadable):
        return b""
    try:
        start = max(0, os.fstat(fd).st_size - _PART) if end else 0
        data = os.pread(fd, _PART, start)
    except OSError:
        return b""
    finally:
        os.close(fd)
    return data.partition(b"\n")[2] if start else data


def saw_end(entries: Iterable[Entry], status: Mapping[str, Any]) -> bool:
    """Whether the end that a status file tells of is among `entries`. One that we forced is journaled as killed."""
    entries = list(entries)
    forced = any(entry.get("act") in _FORCED for entry in entries)
    ends = {contract.run_state(status)} | ({contract.State.KILLED} if forced else set())
    attempt = (status.get("run_id"), seconds(status.get("started_at")))
    return any(
        entry["kind"] == "tick"
        and entry.get("final") is True
        and entry.get("state") in ends
        and (entry.get("run_id"), entry.get("started_at")) == attempt
        for entry in entries
    )


def _entry(line: bytes) -> Entry | None:
    try:
        found = contract.decode_object(line, contract.FINDINGS)
    except contract.Unreadable:
        return None
    return found if isinstance(found.get("kind"), str) else None


def recall(folder: Path, file: str, owed: Iterable[Entry] = ()) -> Past:
    """The past of the metrics file whose fingerprint is `file`; empty when the journal is about another one.

    `owed` are entries that could not be written yet.
    """
    past = Past()
    for entry in chain(entries(folder), owed):
        if entry is None:
            past.unreadable += 1
        elif entry["kind"] == "file":
            past = Past(file=str(entry.get("fingerprint") or ""), unreadable=past.unreadable)
        else:
            _recall_one(past, entry)
    # A journal that began before the first row knows no fingerprint yet, and goes with whatever came.
    return past if past.file in (None, "", file) else Past()


_FORCED = frozenset({"sigterm", "sigkill"})
"""Acts after which a run may be gone without having said that it was killed."""

_ENDS = ("stopped", "recovered-before-act", "observed", "unanswered")
"""Acts after which nothing more is done about a finding."""


def settled(entries: Iterable[Entry], status: Mapping[str, Any]) -> bool:
    """Whether the end of the run that `status` tells of was judged, and every stop that was asked for came to its end.

    A checker that was killed between a report and that leaves it to its successor.
    """
    known = list(entries)
    going: set[Any] = set()
    for entry in known:
        if entry.get("act") == "requested":
            going.add(entry.get("finding"))
        elif entry.get("act") in _ENDS:
            going.discard(entry.get("finding"))
    return not going and saw_end(known, status)


def _recall_one(past: Past, entry: Entry) -> None:
    kind = entry["kind"]
    if kind in ("finding", "recovered"):
        past.told.add(str(entry.get("id")))
    elif kind == "act":
        past.acts.append(entry)
    elif kind == "tick":
        found = tick_in(entry)
        if found is None:
            past.unreadable += 1
        else:
            past.ticks.append(found)


# --------------------------------------------------------------------------------------------------------- effects


def key(effect: Effect) -> str:
    """The same effect has the same key in the daemon, after its restart and in a replay."""
    if isinstance(effect, Found):
        return effect.finding.id
    return f"{effect.run_id or 'run'}/{effect.rule}/{effect.episode}/recovered"


def content(effect: Effect) -> Entry:
    """What is journaled of an effect."""
    if isinstance(effect, Found):
        return effect.finding.document()
    return {"id": key(effect), **effect._asdict()}


# ----------------------------------------------------------------------------------------------------------- ticks


def tick_out(tick: Tick, after_row: int) -> Entry:
    known = {name: value for name, value in asdict(tick).items() if value is not None and name != "ranks"}
    ranks = [{name: value for name, value in asdict(rank).items() if value is not None} for rank in tick.ranks]
    return {"after_row": after_row, **known, **({"ranks": ranks} if ranks else {})}


_TICK_FIELDS = {item.name for item in fields(Tick)}
_RANK_FIELDS = {item.name for item in fields(Rank)}


def tick_in(entry: Mapping[str, Any]) -> tuple[int, Tick] | None:
    """The look that an entry holds and the row it came after, or None when the entry is garbage."""
    known = {name: value for name, value in entry.items() if name in _TICK_FIELDS}
    after = entry.get("after_row")
    try:
        ranks = tuple(_rank_in(rank) for rank in known.pop("ranks", ()))
        tick = Tick(**{**known, "life": Life(known.get("life", Life.UNKNOWN))}, ranks=ranks)
    except (TypeError, ValueError, AttributeError):
        return None
    timed = contract.number_in(tick.now) is not None and _timed(tick) and all(map(_timed, ranks))
    timed = timed and (tick.blocked is None or contract.number_in(tick.blocked) is not None)
    good = type(after) is int and timed
    return (after, tick) if good and type(after) is int else None


def _rank_in(entry: Mapping[str, Any]) -> Rank:
    known = {name: value for name, value in entry.items() if name in _RANK_FIELDS}
    return Rank(**{**known, "life": Life(known.get("life", Life.UNKNOWN))})


def _timed(look: Tick | Rank) -> bool:
    """Whether every time in it is one."""
    times = (value for name, value in vars(look).items() if name.endswith(("_at", "_since")))
    return all(item is None or contract.number_in(item) is not None for item in times)


def merge(events: Iterable[Row | Unreadable], ticks: list[tuple[int, Tick]]) -> Iterator[Event]:
    """`events` with each of the journaled looks where it was made; takes from `ticks` what it has used."""
    return _merged(events, ticks) if ticks else iter(events)


def _merged(events: Iterable[Row | Unreadable], ticks: list[tuple[int, Tick]]) -> Iterator[Event]:
    yield from _due(ticks, -1)
    for event in events:
        yield event
        if isinstance(event, Row):
            yield from _due(ticks, event.index)


def _due(ticks: list[tuple[int, Tick]], row: int) -> Iterator[Tick]:
    while ticks and ticks[0][0] <= row:
        yield ticks.pop(0)[1]
