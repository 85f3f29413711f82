"""Where a run's log is: our own `metrics.jsonl`, or else whatever other program's log lies in the folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

import contract
from checker.formats import jsonlog, mlflow, text
from checker.formats.format import HEAD, PLAIN, Format, Kept, Reading
from checker.formats.roll import FORMATS
from checker.opened import Opened
from checker.retold import Retold
from checker.tail import Tail

Log = Tail | Retold

OWN = frozenset({
    contract.METRICS, contract.STATUS, contract.EXPERIMENT, contract.FINDINGS, contract.EVENTS, contract.DIAGNOSIS,
    contract.ENVIRONMENT, contract.HYPOTHESIS, contract.SPEC, contract.RESULT, contract.RESULT_PAGE,
    contract.EVALUATIONS, contract.STACKS, contract.PROMOTIONS, contract.NEXT, contract.CHECKLIST,
})  # fmt: skip
"""Files of ours, which are no other program's log. What a program has printed (`output.log`) may well be one."""

MANY = 32
"""Files in one folder under names that may mean anything, `*.csv` say. Where there are more, they are data: a log each
would be ambiguous anyway, and to look into thousands of them takes minutes."""

MOST_NAMES = 10_000
"""Names that are read of one folder (some 10 ms). No program keeps so many files beside its log; where one does, a log
whose name is known by heart is found all the same."""

INSIDE = ("checkpoint-*", "checkpoints", "vis_data", "metrics", "artifacts", "files", "logs", "tmp")
"""Folders that belong to a run rather than being one."""


LINES = (".jsonl", ".ndjson")
"""Ends of names that say what a file holds, also where its first line is damaged."""


class Found(NamedTuple):
    """A log of another program."""

    format: Format
    files: tuple[Path, ...]


class Ambiguous(ValueError):
    """Several files of a folder might be its log; the message names them and says what to do."""


def log_of(folder: Path, reading: Reading = PLAIN) -> Log:
    """The log of a run folder; our own, which may come yet, where there is no other."""
    own = folder / contract.METRICS
    if os.path.lexists(own):
        return Tail(own) if not reading.columns else _own(own, reading)
    try:
        found = other(folder, reading)
    except Ambiguous:
        found = None
    return Tail(own) if found is None else Retold(found.format, partial(_again, folder, found), reading)


def log_at(path: Path, reading: Reading = PLAIN) -> Log:
    """The log in a folder or in a file, whatever the file is called.

    Raises:
        ValueError: there is none that is understood; the message says what was looked for.
    """
    if path.is_dir():
        if os.path.lexists(path / contract.METRICS):
            return log_of(path, reading)
        found = other(path, reading)
        if found is None:
            raise ValueError(f"{path}: a folder without {contract.METRICS}, and without a log of another known program")
        return log_of(path, reading)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    format_ = format_of(path, reading)
    if format_ is mlflow.DATABASE_FORMAT:
        files = (path, path.parent / _only_run(path))
        return Retold(format_, lambda: files, reading)
    if format_ is None:
        if path.suffix not in LINES and not _has_an_object(head_of(path)):
            raise ValueError(f"{path}: no log of a known format; checker formats lists them")
        return Tail(path) if not reading.columns else _own(path, reading)
    return Retold(format_, lambda: (path,), reading)


def _only_run(database: Path) -> str:
    """The run in a database of MLflow's.

    Raises:
        ValueError: there are several, or none.
    """
    runs = mlflow.runs_in(database)
    if len(runs) == 1:
        return runs[0]
    names = ", ".join(runs[-5:]) if runs else "none"
    raise ValueError(
        f"{database}: holds {len(runs)} runs ({names}); name the folder of one, mlruns/EXPERIMENT/RUN, or make it"
    )


def _own(path: Path, reading: Reading) -> Retold:
    """Our own format, with columns that mean something else."""
    return Retold(jsonlog.LINES, lambda: (path,) if path.exists() else (), reading)


def _again(folder: Path, first: Found) -> Sequence[Path]:
    """The files of a log now: there may be more of them than there were."""
    found = _lying(folder, first.format)
    return found or [path for path in first.files if path.exists()]


def other(folder: Path, reading: Reading = PLAIN) -> Found | None:
    """The log of another program that lies in a folder, of the first format that fits.

    Raises:
        Ambiguous: several files fit equally well.
    """
    text.teach(reading.patterns)
    names = _names(folder)
    for format_ in FORMATS:
        files = _lying(folder, format_, names)
        if format_.kept is Kept.APPENDED and len(files) > 1:
            told = ", ".join(path.name for path in files[:5])
            raise Ambiguous(
                f"{folder}: {told} might each be the log ({format_.title}); put them into a folder each, "
                f"or name the one that is meant to inspect, replay or backtest"
            )
        if files:
            return Found(format_, tuple(files))
    return None


def undecided(folder: Path) -> str:
    """Why nobody can say which of several files is a folder's log; nothing where there is one, or none."""
    if any(os.path.lexists(folder / name) for name in (contract.METRICS, contract.STATUS, contract.EXPERIMENT)):
        return ""
    try:
        other(folder)
    except Ambiguous as error:
        return str(error)
    except OSError:
        return ""
    return ""


def _lying(folder: Path, format_: Format, names: Sequence[str] | None = None) -> list[Path]:
    """The files in a folder that have a name of the format, and its content, in the order in which they tell."""
    if format_ is mlflow.DATABASE_FORMAT:
        return _in_database(folder)
    named = _named(folder, format_.files, _names(folder) if names is None else names)
    paths = [path for path in named if _is(path, format_)]
    if format_.kept is Kept.SAVED and format_ is not mlflow.FILES:
        return _latest(paths)
    return sorted(paths)


SAVED_TOGETHER = 10_000_000_000
"""Nanoseconds. Of files that are as old as that the longest is the latest: a folder that was copied, or came out of an
archive or a repository, has lost the times at which its files were saved."""


def _latest(paths: Iterable[Path]) -> list[Path]:
    """The document that was saved last."""
    infos: dict[Path, os.stat_result] = {}
    for path in paths:
        with suppress(OSError):
            infos[path] = os.stat(path)
    newest = max((info.st_mtime_ns for info in infos.values()), default=0)
    near = [path for path, info in infos.items() if newest - info.st_mtime_ns < SAVED_TOGETHER]
    return sorted(near, key=lambda path: (infos[path].st_size, infos[path].st_mtime_ns, str(path)))[-1:]


def _in_database(folder: Path) -> list[Path]:
    """The database that holds the numbers of a run folder of MLflow's, and that folder."""
    if len(folder.name) != 32 or not all(letter in "0123456789abcdef" for letter in folder.name):
        return []
    for above in folder.absolute().parents[1:3]:
        path = above / mlflow.DATABASE
        if _is(path, mlflow.DATABASE_FORMAT):
            return [path, folder]
    return []


def _named(folder: Path, patterns: Sequence[str], names: Sequence[str]) -> Iterator[Path]:
    """The files with one of the names, each once; none where so many have one that they cannot be logs."""
    for pattern in patterns:
        if "/" in pattern:
            yield from _globbed(folder, pattern)
    flat = [pattern for pattern in patterns if "/" not in pattern]
    found = [name for name in names if name not in OWN and any(fnmatchcase(name, pattern) for pattern in flat)]
    if len(found) > 1 and contract.OUTPUT in found:  # a program that keeps a log tells more in it than on its way
        found.remove(contract.OUTPUT)
    anything = any(pattern.startswith("*.") and pattern.count(".") == 1 for pattern in flat)
    if not (anything and len(found) > MANY):
        yield from (folder / name for name in found)


def _globbed(folder: Path, pattern: str) -> list[Path]:
    try:
        return [path for path in folder.glob(pattern) if path.is_file()]
    except OSError as error:
        return _nothing(error)


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            some = list(islice(entries, MOST_NAMES))
    except OSError as error:
        return _nothing(error)
    found = [entry.name for entry in some if not entry.name.startswith(".") and not _is_folder(entry)]
    if len(some) == MOST_NAMES:
        found += [name for name in KNOWN_BY_HEART - {*found} if os.path.lexists(folder / name)]
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return True  # nobody may look, so nobody can read it


KNOWN_BY_HEART = frozenset(name for one in FORMATS for name in one.files if "*" not in name and "/" not in name)


def _nothing(error: OSError) -> list[Any]:
    """What lies where nobody may look.

    Raises:
        OSError: it is we who cannot open anything just now, which says nothing about the folder.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        raise error
    return []


def _is(path: Path, format_: Format) -> bool:
    try:
        info = os.stat(path)
    except OSError:
        return False
    size = min(info.st_size, HEAD)  # beyond that, what is added changes nothing about what the log is
    stamp = (info.st_dev, info.st_ino, size, size < HEAD and info.st_mtime_ns, text.taught())
    return size > 0 and _fits(str(path), format_, stamp)


@lru_cache(maxsize=1 << 14)
def _fits(path: str, format_: Format, _stamp: object) -> bool:
    """Whether the content of a file is of a format; asked once as long as its beginning stays as it is."""
    return format_.recognises(head_of(Path(path)))


def head_of(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read.

    Raises:
        OSError: it is we who cannot open anything just now; that must not be remembered as what the file is.
    """
    try:
        with Opened(path) as fd:
            return b"" if fd is None else os.pread(fd, HEAD, 0)
    except OSError as error:
        return bytes(_nothing(error))


def format_of(path: Path, reading: Reading = PLAIN) -> Format | None:
    """The format of a file by its content alone; None for JSON lines that mean what ours do, and for what is no log."""
    text.teach(reading.patterns)
    head = head_of(path)
    for known in FORMATS:
        if known is jsonlog.LINES and (path.suffix in LINES or known.recognises(head)):
            return None
        if known.recognises(head):
            return known
    return None


def may_be_log(name: str) -> bool:
    """Whether a file's name is that of some log. In a folder of pictures nobody looks into each of them."""
    if name in OWN:
        return False
    return name.endswith(LINES) or any(fnmatchcase(name, pattern.rpartition("/")[2]) for pattern in _NAMES)


_NAMES = frozenset(name for one in FORMATS if one.kept is not Kept.SAVED for name in one.files) | KNOWN_BY_HEART


def _has_an_object(head: bytes) -> bool:
    """Whether some line is a JSON object, so that the others are damaged rows."""
    for line in head.splitlines():
        with suppress(ValueError):
            if isinstance(from_json(line), dict):
                return True
    return False


def has_log(folder: Path) -> bool:
    """Whether a folder is a run of another program: a log lies in it, and no run in a folder below.

    One of ours counts two levels below, so that no file that comes to lie above it can hide it. Logs of others do so
    where the one above has a name that may mean anything (`*.txt`), since programs write what they print beside the
    folders of their runs; else one level below.

    Raises:
        OSError: no file can be opened just now.
    """
    if inside_a_run(folder.name) and _is_run(folder.parent):
        return False
    try:
        found = other(folder)
    except Ambiguous:
        return False
    return found is not None and not _runs_below(folder, 2, 2 if found.format.files[0].startswith("*") else 1)


def _is_run(folder: Path) -> bool:
    """Whether a folder has a log, whosever it is."""
    return _is_ours(folder) or _is_others(folder)


def _is_ours(folder: Path) -> bool:
    ours = (contract.METRICS, contract.STATUS, contract.EXPERIMENT)
    return any(os.path.lexists(folder / name) for name in ours)


def _is_others(folder: Path) -> bool:
    try:
        return other(folder) is not None
    except Ambiguous:
        return True


def inside_a_run(name: str) -> bool:
    """Whether a folder of this name usually belongs to the run in the folder above."""
    return any(fnmatchcase(name, pattern) for pattern in INSIDE)


def _runs_below(folder: Path, ours: int, others: int) -> bool:
    """Whether a run lies in a folder so many levels below; of many folders the first are looked through."""
    try:
        with os.scandir(folder) as entries:
            some = islice(entries, MOST_NAMES)
            below = [folder / entry.name for entry in some if not entry.name.startswith(".") and _is_folder(entry)]
    except OSError as error:
        return bool(_nothing(error))
    if any(map(_is_ours, below)):
        return True
    below = below[:MANY]
    if others > 0 and any(_is_others(place) for place in below if not inside_a_run(place.name)):
        return True
    return ours > 1 and any(_runs_below(place, ours - 1, others - 1) for place in below)


def look(folder: Path) -> object:
    """What is another value when the log of another program has changed, come or gone; None where there is none."""
    try:
        found = other(folder)
    except (Ambiguous, OSError):
        return None
    return None if found is None else tuple(map(_stamp, found.files))


def touched(folder: Path) -> float:
    """When the log of another program was last written to, in seconds of the wall clock; 0 where there is none."""
    try:
        found = other(folder)
        return max((os.stat(path).st_mtime for path in found.files), default=0.0) if found is not None else 0.0
    except (Ambiguous, OSError):
        return 0.0


def _stamp(path: Path) -> object:
    try:
        return contract.stamp(os.stat(path))
    except OSError:
        return None


def files_of(log: Log, path: Path) -> list[Path]:
    """The files that a log is read from."""
    if isinstance(log, Tail):
        return [log.path]
    found = log.files()
    return list(found) or [path]
