"""Where a run's log is: our own `metrics.jsonl`, or else whatever other program's log lies in the folder."""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

import contract
from checker.formats import jsonlog, mlflow
from checker.formats.format import HEAD, PLAIN, Format, Kept, Reading
from checker.formats.roll import FORMATS
from checker.opened import Opened
from checker.retold import Retold
from checker.tail import Tail

Log = Tail | Retold

OWN = frozenset({
    contract.METRICS, contract.STATUS, contract.EXPERIMENT, contract.FINDINGS, contract.EVENTS, contract.DIAGNOSIS,
})  # fmt: skip
"""Files of ours, which are no other program's log."""

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
        found = other(folder)
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
        found = other(path)
        if found is None:
            raise ValueError(f"{path}: a folder without {contract.METRICS}, and without a log of another known program")
        return log_of(path, reading)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    format_ = format_of(path)
    if format_ is None:
        if path.suffix not in LINES and not _has_an_object(head_of(path)):
            raise ValueError(f"{path}: no log of a known format; checker formats lists them")
        return Tail(path) if not reading.columns else _own(path, reading)
    return Retold(format_, lambda: (path,), reading)


def _own(path: Path, reading: Reading) -> Retold:
    """Our own format, with columns that mean something else."""
    return Retold(jsonlog.LINES, lambda: (path,) if path.exists() else (), reading)


def _again(folder: Path, first: Found) -> Sequence[Path]:
    """The files of a log now: there may be more of them than there were."""
    found = _lying(folder, first.format)
    return found or [path for path in first.files if path.exists()]


def other(folder: Path) -> Found | None:
    """The log of another program that lies in a folder, of the first format that fits.

    Raises:
        Ambiguous: several files fit equally well.
    """
    return next(_others(folder), None)


def _others(folder: Path) -> Iterator[Found]:
    for format_ in FORMATS:
        files = _lying(folder, format_)
        if not files:
            continue
        if format_.kept is Kept.APPENDED and len(files) > 1:
            names = ", ".join(path.name for path in files[:5])
            raise Ambiguous(
                f"{folder}: {names} might each be the log ({format_.title}); put them into a folder each, "
                f"or name the one that is meant to inspect, replay or backtest"
            )
        yield Found(format_, tuple(files))


def _lying(folder: Path, format_: Format) -> list[Path]:
    """The files in a folder that have a name of the format, and its content, in the order in which they tell."""
    if format_ is mlflow.DATABASE_FORMAT:
        return _in_database(folder)
    paths = [path for path in _named(folder, format_.files) if _is(path, format_)]
    if format_.kept is Kept.SAVED and format_ is not mlflow.FILES:
        return sorted(paths, key=_modified)[-1:]
    return sorted(paths)


def _in_database(folder: Path) -> list[Path]:
    """The database that holds the numbers of a run folder of MLflow's, and that folder."""
    if len(folder.name) != 32 or not all(letter in "0123456789abcdef" for letter in folder.name):
        return []
    for above in folder.absolute().parents[1:3]:
        path = above / mlflow.DATABASE
        if _is(path, mlflow.DATABASE_FORMAT):
            return [path, folder]
    return []


def _named(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """The files with one of the names, each once."""
    flat = [pattern for pattern in patterns if "/" not in pattern]
    names = _names(folder) if flat else []
    for name in names:
        if name not in OWN and any(fnmatch.fnmatchcase(name, pattern) for pattern in flat):
            yield folder / name
    for pattern in patterns:
        if "/" in pattern:
            yield from _globbed(folder, pattern)


def _globbed(folder: Path, pattern: str) -> list[Path]:
    try:
        return [path for path in folder.glob(pattern) if path.is_file()]
    except OSError as error:
        return _nothing(error)


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir()]
    except OSError as error:
        return _nothing(error)


def _nothing(error: OSError) -> list[Any]:
    """What lies where nobody may look.

    Raises:
        OSError: it is we who cannot open anything just now, which says nothing about the folder.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        raise error
    return []


def _modified(path: Path) -> tuple[int, str]:
    try:
        return os.stat(path).st_mtime_ns, str(path)
    except OSError:
        return 0, str(path)


def _is(path: Path, format_: Format) -> bool:
    try:
        info = os.stat(path)
    except OSError:
        return False
    size = min(info.st_size, HEAD)  # beyond that, what is added changes nothing about what the log is
    return size > 0 and _fits(str(path), format_, (info.st_dev, info.st_ino, size, size < HEAD and info.st_mtime_ns))


@lru_cache(maxsize=4096)
def _fits(path: str, format_: Format, _stamp: object) -> bool:
    """Whether the content of a file is of a format; asked once as long as its beginning stays as it is."""
    return format_.recognises(head_of(Path(path)))


def head_of(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with Opened(path) as fd:
            return b"" if fd is None else os.pread(fd, HEAD, 0)
    except OSError:
        return b""


def format_of(path: Path) -> Format | None:
    """The format of a file by its content alone; None for JSON lines that mean what ours do, and for what is no log."""
    head = head_of(path)
    for known in FORMATS:
        if known is jsonlog.LINES and (path.suffix in LINES or known.recognises(head)):
            return None
        if known.recognises(head):
            return known
    return None


def _has_an_object(head: bytes) -> bool:
    """Whether some line is a JSON object, so that the others are damaged rows."""
    for line in head.splitlines():
        with suppress(ValueError):
            if isinstance(from_json(line), dict):
                return True
    return False


def has_log(folder: Path) -> bool:
    """Whether a folder is a run of another program: a log lies in it, and no run in a folder below.

    Under a name that may mean anything (`*.txt`) it counts only if there is none two levels below either: programs
    write what they print beside the folders of their runs.

    Raises:
        OSError: no file can be opened just now.
    """
    if _inside_a_run(folder.name):
        return False
    try:
        found = other(folder)
    except Ambiguous:
        return False
    return found is not None and not _runs_below(folder, 2 if found.format.files[0].startswith("*") else 1)


def _inside_a_run(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in INSIDE)


def _runs_below(folder: Path, depth: int) -> bool:
    """Whether a folder some levels below has a log."""
    try:
        with os.scandir(folder) as entries:
            below = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError as error:
        return bool(_nothing(error))
    for name in below:
        if _inside_a_run(name):
            continue
        place = folder / name
        if any(os.path.lexists(place / own) for own in (contract.METRICS, contract.STATUS)):
            return True
        try:
            found = other(place) is not None
        except Ambiguous:
            found = True
        if found or (depth > 1 and _runs_below(place, depth - 1)):
            return True
    return False


def look(folder: Path) -> object:
    """What is another value when the log of another program has changed, come or gone; None where there is none."""
    try:
        found = other(folder)
    except (Ambiguous, OSError):
        return None
    return None if found is None else tuple(map(_stamp, found.files))


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
