"""A small part of the zoo, kept in the repository: a broken rule is noticed without training anything."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[3]), str(Path(__file__).resolve().parents[1])]

import contest  # noqa: E402  # after the paths that make the bench's modules importable
import labelled  # noqa: E402
from labelled import Run  # noqa: E402

KEPT = Path(__file__).parent / "kept.tar.xz"
SPLIT = "validate"
"""Which split is kept a part of; never the one for the final score."""

DIGITS = 6
"""Significant digits of a kept number."""

EVERY_HARD, EVERY_OTHER = 1, 4
"""Every so many runs of each program and label are kept: all hard faults, which are few, a quarter of the rest."""


def chosen(runs: Iterable[Run]) -> list[Run]:
    """The runs that are kept, by name alone: what a rule says about them plays no part."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs):
        if run.label not in labelled.UNSCORED:
            groups.setdefault((run.program, run.label), []).append(run)
    every = dict.fromkeys(labelled.HARD, EVERY_HARD)
    return sorted(run for (_, label), group in groups.items() for run in group[:: every.get(label, EVERY_OTHER)])


def keep(output: Path, pool: Executor, archive: Path = KEPT) -> int:
    """Writes `archive` from the runs in `output`, and says how many runs are in it.

    The archive is a split by the name of `kept`: a folder of logs and a table of labels beside it. The same runs make
    the same bytes.
    """
    runs = chosen(labelled.group(SPLIT, output / SPLIT, output / f"{SPLIT}.labels.jsonl").runs)
    wanted = {run.id for run in runs}
    table = (output / f"{SPLIT}.labels.jsonl").read_text().splitlines()
    entries = "".join(f"{line}\n" for line in table if json.loads(line)["id"] in wanted)
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        _add(tar, "kept.labels.jsonl", entries)
        for run, text in zip(runs, pool.map(compact, runs, chunksize=8), strict=True):
            _add(tar, f"kept/{run.id}.jsonl", text)
    return len(runs)


def compact(run: Run) -> str:
    """The log of a run with rounded numbers, unless rounding changes what the rules say about it."""
    plain = run.path.read_text()
    short = "".join(json.dumps(_rounded(json.loads(line)), separators=(",", ":")) + "\n" for line in plain.splitlines())
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / run.path.name
        rounded.write_text(short)
        same = contest.ours(run._replace(path=rounded)) == contest.ours(run)
    return short if same else plain


def unpacked(folder: Path, archive: Path = KEPT) -> list[Run]:
    """The kept runs, unpacked into `folder`."""
    with tarfile.open(archive, "r:xz") as tar:
        for part in tar:  # extractall asks for a filter that Python 3.11.0 to 3.11.3 do not have
            (folder / part.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / part.name).write_bytes(tar.extractfile(part).read())
    return labelled.group("kept", folder / "kept", folder / "kept.labels.jsonl").runs


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    """Neither time nor owner, which would make other bytes each time."""
    data = text.encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
