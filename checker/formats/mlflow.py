"""MLflow's local stores: a folder with a file per metric, or a run in the database `mlflow.db` beside `mlruns`.

A run is the folder `mlruns/EXPERIMENT/RUN`, whichever store holds its numbers.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import contract
from checker import rows
from checker.events import Row, Unreadable
from checker.formats.format import Format, Half, Kept, Reading

DATABASE = "mlflow.db"

SETTLED_SECONDS = 2.0
"""The files of one call of `log_metrics` are written one after the other: so long a row may still become wider."""

WAIT_SECONDS = 0.05
"""For a database that is just being written to. A look at a run must not make the others wait; the next one comes."""

MAX_SIZE = 1 << 28
"""Bytes of one metric's file."""

Point = tuple[int, int, str, float]
"""Milliseconds since 1970, step, name, value."""


def read_files(paths: Sequence[Path], reading: Reading) -> Iterator[Row | Unreadable]:
    """The rows of a run whose metrics have a file each.

    Raises:
        OSError, contract.Unreadable: one cannot be read.
    """
    points, bad = list[Point](), list[Unreadable]()
    for path in paths:
        name = "/".join(path.parts[len(_folder_of(path).parts) :])
        for number, line in enumerate(contract.read_plain(path, MAX_SIZE)[0].splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                continue
            try:
                at, value, *step = line.split()
                points.append((int(at), int(step[0]) if step else 0, name, float(value)))
            except ValueError:
                bad.append(Unreadable(number, f"metrics/{name}: not a time, a value and a step: {line[:40]!r}"))
    now = (time.time() - SETTLED_SECONDS) * 1000
    yield from bad[:1]
    yield from _rows((point for point in points if point[0] <= now), reading)


def _folder_of(path: Path) -> Path:
    """The folder of all metrics of a run. A metric's own name may begin with `metrics/` as well."""
    found = [above for above in path.parents if above.name == "metrics"]
    return next((above for above in found if (above.parent / "meta.yaml").exists()), found[0] if found else path.parent)


def read_database(paths: Sequence[Path], reading: Reading) -> Iterator[Row | Unreadable]:
    """The rows of a run in a database; the last of `paths` is the run's folder, whose name is its id.

    Raises:
        Half: the database cannot be read just now.
    """
    path, run = paths[0], paths[-1].name
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=WAIT_SECONDS)) as database:
            found = database.execute(
                "SELECT timestamp, step, key, CASE WHEN is_nan THEN NULL ELSE value END, is_nan "
                "FROM metrics WHERE run_uuid = ? ORDER BY timestamp, step, key",
                (run,),
            )
            points = [
                (int(at), int(step), str(name), math.nan if is_nan else _beyond(value))
                for at, step, name, value, is_nan in found
            ]
    except sqlite3.Error as error:
        raise Half(f"{path.name}: {error}") from None
    yield from _rows(points, reading)


def _beyond(value: float) -> float:
    """MLflow stores infinity as the largest number there is."""
    largest = 1.7976931348623157e308
    return math.copysign(math.inf, value) if abs(value) >= largest else value


def _rows(points: Iterable[Point], reading: Reading) -> Iterator[Row]:
    """One row per call: what was logged at one time for one step."""
    calls: dict[tuple[int, int], dict[str, Any]] = defaultdict(dict)
    for at, step, name, value in points:
        calls[at, step][name] = value
    for index, (at, step) in enumerate(sorted(calls)):
        document = {**calls[at, step], "step": step, "timestamp": at / 1000}
        yield reading.row(document, index, index + 1)


def runs_in(path: Path) -> list[str]:
    """The runs in a database that have metrics, the oldest first.

    Raises:
        ValueError: it is no database of MLflow's, or cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=WAIT_SECONDS)) as database:
            return [run for (run,) in database.execute("SELECT run_uuid FROM runs ORDER BY start_time")]
    except sqlite3.Error as error:
        raise ValueError(f"{path}: {error}") from None


def _number(line: bytes) -> bool:
    parts = line.split()
    return len(parts) in (2, 3) and parts[0].isdigit() and rows.seconds(int(parts[0])) is not None


FILES = Format(
    "mlflow",
    "MLflow, files",
    ("metrics/*", "metrics/*/*", "metrics/*/*/*"),
    lambda head: any(map(_number, head.splitlines()[:1])),
    kept=Kept.SAVED,
    read=read_files,
    held_back=SETTLED_SECONDS,
    about="watch `mlruns`; told two seconds late, when all metrics of a step have been written",
)

DATABASE_FORMAT = Format(
    "mlflow-db",
    "MLflow, mlflow.db",
    ("../../mlflow.db", "../../../mlflow.db"),
    lambda head: head.startswith(b"SQLite format 3\0"),
    kept=Kept.SAVED,
    read=read_database,
    about="watch `mlruns`; a run is seen once its folder `mlruns/EXPERIMENT/RUN` exists, which MLflow makes for its "
    "first artifact",
)
