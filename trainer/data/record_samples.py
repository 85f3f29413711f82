"""One sample per record: read when it is its turn, and never from a file that has changed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.data.index import Index
from trainer.data.samples import IGNORED, Batch
from trainer.data.stored import Stored, opened


@dataclass(frozen=True)
class Meaning:
    """What becomes of a record's fields."""

    context: int = 0
    """Of a document; 0 for features."""
    shape: tuple[int, ...] = ()
    """Of the features."""
    labels: Mapping[str, int] | None = None
    """The class of each target; None for a regression."""
    mean: Tensor | None = None
    scale: Tensor | None = None


class RecordSamples:
    """Some records of an indexed file."""

    def __init__(self, found: Index, meaning: Meaning, rows: Stored | None, begin: int, end: int) -> None:
        """Samples that are read from the file each time.

        Args:
            found: where the records stand.
            meaning: what becomes of them.
            rows: int64, the record at each place of the split; None: they are as in the file.
            begin: the first place that counts here.
            end: the place behind the last one.
        """
        self.found, self.meaning = found, meaning
        self.rows, self.begin, self.end = rows, begin, end
        self._arguments = found, meaning, rows, begin, end
        self._fd = opened(found.path, self)

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordSamples, self._arguments

    def __len__(self) -> int:
        return self.end - self.begin

    def batch(self, numbers: Tensor) -> Batch:
        """The samples with these numbers.

        Raises:
            RuntimeError: the file has changed since it was indexed.
        """
        records = self._records(numbers)
        return self._documents(records) if self.meaning.context else self._examples(records)

    def features(self, numbers: Tensor) -> Tensor:
        """The features of some samples as they are in the file (float64)."""
        return self._features(self._records(numbers))

    def _records(self, numbers: Tensor) -> list[Any]:
        rows = numbers + self.begin
        if self.rows is not None:
            rows = self.rows.tensor.index_select(0, rows)
        places = self.found.places.tensor.view(-1, 2).index_select(0, rows).tolist()
        return [self.found.fields.parsed(self._read(*place)) for place in places]

    def scores(self) -> Tensor | None:
        """How hard the records say they are, in the order of the split."""
        if self.found.scores is None:
            return None
        scores = self.found.scores.tensor
        if self.rows is None:
            return scores[self.begin : self.end]
        return scores.index_select(0, self.rows.tensor[self.begin : self.end])

    def _read(self, offset: int, check: int) -> bytes:
        length, crc = check >> 32, check & 0xFFFFFFFF
        content = os.pread(self._fd, length, offset)
        if len(content) != length or zlib.crc32(content) != crc:
            path, line = self.found.path, _line(self._fd, offset)
            raise RuntimeError(
                f"{path}:{line}: the record at byte {offset} has changed since the file was indexed; begin a new run, "
                "or put back the file as it was"
            )
        return content

    def _documents(self, records: Sequence[Any]) -> Batch:
        """Bytes, cut or padded to the context; the target is the input one byte later, none for padding."""
        width, fields = self.meaning.context + 1, self.found.fields
        padded, lengths = bytearray(len(records) * width), []
        for number, record in enumerate(records):
            text = fields.text(record)[:width]
            padded[number * width : number * width + len(text)] = text
            lengths.append(len(text))
        tokens = torch.frombuffer(padded, dtype=torch.uint8).view(-1, width).long()
        beyond = torch.arange(1, width) >= torch.tensor(lengths)[:, None]
        return tokens[:, :-1], tokens[:, 1:].masked_fill(beyond, IGNORED)

    def _features(self, records: Sequence[Any]) -> Tensor:
        numbers = [self.found.fields.features(record)[0] for record in records]
        return torch.tensor(numbers, dtype=torch.float64).view(-1, *self.meaning.shape)

    def _examples(self, records: Sequence[Any]) -> Batch:
        fields, meaning = self.found.fields, self.meaning
        inputs = self._features(records)
        if meaning.mean is not None and meaning.scale is not None:
            inputs = (inputs - meaning.mean) / meaning.scale  # before it is rounded: a time stamp has more than 24 bits
        inputs = inputs.float()
        found = [fields.target(record) for record in records]
        if meaning.labels is None:
            return inputs, torch.tensor([[value] for value in found], dtype=torch.float32)
        return inputs, torch.tensor([meaning.labels[str(value)] for value in found])


def _line(fd: int, offset: int) -> int:
    """The number of the line that begins at a place."""
    line, place = 1, 0
    while place < offset and (block := os.pread(fd, min(1 << 20, offset - place), place)):
        line += block.count(b"\n")
        place += len(block)
    return line
