"""Where each record of a file stands, found in one pass and kept: 16 bytes per record, which are never loaded whole."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from trainer import spec
from trainer.data import cache
from trainer.data.fields import CsvFields, JsonFields, Shapes, Targets, quoted
from trainer.data.lines import Found, Lines, Malformed, csv_records, json_records
from trainer.data.stored import Stored, checked, identity
from trainer.spec.data import Records

MOST_LABELS = 10_000
_FORMAT = 1
"""Of the index: what was kept in another one is made anew."""
_NAMED = 5
"""Faults that are told, of all that are counted."""
_TOGETHER = 1 << 16
"""Records whose places are written together."""


@dataclass
class Account:
    """What a file holds."""

    sha256: str = ""
    records: int = 0
    """Those that can be used."""
    blank: int = 0
    malformed: int = 0
    cut: int = 0
    """Documents longer than the model sees; their ends are not learned from."""
    faults: list[str] = field(default_factory=list)
    """The first ones, as file:line: why."""
    header: list[str] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)
    """Of the features."""
    whole: int = 0
    """Targets that are whole numbers, then other numbers, then texts."""
    other: int = 0
    texts: int = 0
    first_other: str = ""
    first_text: str = ""
    labels: list[str] | None = None
    """Every target, where all may be labels; None where there are more than anybody can mean."""


@dataclass(frozen=True)
class Index:
    """A file and the places of its records."""

    path: Path
    size: int
    account: Account
    fields: JsonFields
    places: Stored
    """Two int64 per record: where it begins; how long it is (upper 32 bits) and its CRC-32 (lower)."""
    scores: Stored | None


def index(path: str, source: Records, options: spec.Spec, where: str) -> Index:
    """The index of a file, made if it is not kept yet.

    Args:
        path: the file.
        source: what its records hold.
        options: `context` and `task` count here.
        where: the key of the spec that names the file.

    Raises:
        SpecError: it cannot be read, lacks a column, or is being written.
    """
    file, context, task = checked(path, where), options.context if source.text else 0, _task(options)
    key = {**identity(file), **_meaning(source), "task": task, "context": context, "format": _FORMAT}
    folder = cache.kept("index", key, lambda folder: _write(folder, file, source, task, context))
    account = Account(**json.loads((folder / "account.json").read_text("utf-8")))
    fields = _fields(source, task, account.header)
    scores = Stored(folder / "scores", torch.float32) if source.difficulty else None
    return Index(file, key["bytes"], account, fields, Stored(folder / "places", torch.int64), scores)


def _task(options: spec.Spec) -> str:
    return options.task if options.task in ("classification", "regression") else ""


def _meaning(source: Records) -> dict[str, Any]:
    """What decides how a record is read."""
    return source.model_dump(include={"kind", "text", "features", "target", "difficulty", "delimiter"})


def _fields(source: Records, task: str, header: list[str]) -> JsonFields:
    return CsvFields(source, task, header) if source.kind == "csv" else JsonFields(source, task)


def _write(folder: Path, path: Path, source: Records, task: str, context: int) -> None:
    """Reads the file once, and leaves what it found in a folder.

    Raises:
        SpecError: the header lacks a column, or the file has changed meanwhile.
    """
    before = identity(path)
    with path.open("rb") as file, (folder / "places").open("wb") as places, (folder / "scores").open("wb") as scores:
        account = _Pass(path, source, task, context).over(Lines(file), places, scores)
    if identity(path) != before:
        raise spec.SpecError(f"{path}: has changed while it was read; begin when it is complete")
    (folder / "account.json").write_text(json.dumps(asdict(account)), "utf-8")


class _Pass:
    """One pass over a file."""

    def __init__(self, path: Path, source: Records, task: str, context: int) -> None:
        self.path, self.source, self.task, self.context = path, source, task, context
        self.account, self.targets = Account(), Targets(MOST_LABELS)
        self.shapes: Shapes | None = None
        self.score = 0.0

    def over(self, lines: Lines, places: BinaryIO, scores: BinaryIO) -> Account:
        """Counts and checks every record, and writes down where the good ones are."""
        records, fields = self._begun(lines)
        found_places, found_scores = array("q"), array("f")
        for found in records:
            if found.record is None and not found.fault:
                self.account.blank += 1
                continue
            try:
                self._check(fields, found)
            except Malformed as fault:
                self._blame(found, str(fault))
                continue
            self.account.records += 1
            found_places.extend((found.offset, found.length << 32 | found.crc))
            found_scores.append(self.score)
            if len(found_scores) == _TOGETHER:
                _flush(found_places, places, found_scores, scores)
        _flush(found_places, places, found_scores, scores)
        return self._finished(lines)

    def _begun(self, lines: Lines) -> tuple[Iterator[Found], JsonFields]:
        if self.source.kind == "jsonl":
            return json_records(lines), _fields(self.source, self.task, [])
        records = csv_records(lines, self.source.delimiter)
        self.account.header = self._header(records)
        return records, _fields(self.source, self.task, self.account.header)

    def _header(self, records: Iterator[Found]) -> list[str]:
        """The first row that is not blank.

        Raises:
            SpecError: it lacks a column that the spec names, or has it twice.
        """
        first = next((found for found in records if found.record is not None or found.fault), None)
        if first is None or first.fault:
            why = f"line {first.line} {first.fault}" if first else "has only blank lines"
            raise spec.SpecError(f"{self.path}: {why}; its first line must name the columns")
        header: list[str] = first.record
        source = self.source
        wanted = [source.text, *source.features, source.target, source.difficulty]
        names = [name for name in wanted if name is not None]
        if missing := [name for name in names if name not in header]:
            raise spec.SpecError(
                f"{self.path}:{first.line}: there is no column {quoted(missing)}; the first line names {quoted(header)}"
                + (f" (delimiter {source.delimiter!r})" if len(header) == 1 else "")
            )
        if twice := sorted({name for name in names if header.count(name) > 1}):
            raise spec.SpecError(f"{self.path}:{first.line}: there are several columns {quoted(twice)}")
        return header

    def _check(self, fields: JsonFields, found: Found) -> None:
        """Sees that a record has what is asked of it.

        Raises:
            Malformed: it has not.
        """
        if found.fault:
            raise Malformed(found.fault)
        record = found.record
        if isinstance(fields, CsvFields):
            fields.fitting(record)
        else:
            record = fields.parsed(record)
        if self.source.difficulty:
            self.score = fields.difficulty(record)
        if self.source.text:
            self.account.cut += len(fields.text(record)) > self.context + 1
            return
        _, shapes = fields.features(record)
        target = fields.target(record)
        if shapes != self.shapes:
            if self.shapes is not None:
                raise Malformed(
                    f"features have the shapes {list(shapes)}, those of the first record {list(self.shapes)}"
                )
            self.shapes = shapes
        self.targets.note(target, found.line)

    def _blame(self, found: Found, fault: str) -> None:
        self.account.malformed += 1
        if len(self.account.faults) < _NAMED:
            self.account.faults.append(f"{self.path}:{found.line}: {fault}")

    def _finished(self, lines: Lines) -> Account:
        account, targets = self.account, self.targets
        account.sha256 = lines.sha256
        account.shapes = [list(shape) for shape in self.shapes or ()]
        account.whole, account.other, account.texts = targets.whole, targets.other, targets.texts
        account.first_other, account.first_text = targets.first_other, targets.first_text
        account.labels = None if targets.too_many else list(targets.labels)
        return account


def _flush(places: array[int], into: BinaryIO, scores: array[float], scores_into: BinaryIO) -> None:
    places.tofile(into)
    scores.tofile(scores_into)
    del places[:], scores[:]
