"""Text as training data: windows of bytes, side by side."""

from __future__ import annotations

import array
import hashlib
import itertools
import os
import sysconfig
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer import spec
from trainer.data import cache
from trainer.data.samples import Batch, Data
from trainer.data.stored import BOM, Stored, Unchanged, checked, identity, mapped, sha256
from trainer.spec.data import StdlibText, TextFile

VOCABULARY = 256
"""A token is a byte."""
_QUICK = 1
"""zlib's level: the ranks of windows are the same with a thorough one."""
_SCORES = 1 << 16
"""Scores written together."""


class Windows:
    """The windows of a text. Each has one byte more than the context, which it shares with its neighbour."""

    def __init__(self, text: Tensor, context: int, scores: Stored | None = None, *, name: str = "the text") -> None:
        """Windows over a text (uint8, one dimension).

        Raises:
            SpecError: there is not even one.
        """
        if len(text) < context + 1:
            raise spec.SpecError(f"model.context = {context}: longer than {name}, which has {len(text)} bytes")
        self.text, self.context = text, context
        self._windows = text.unfold(0, context + 1, context)  # a view: the shared bytes are stored once
        self._scores = scores

    def __len__(self) -> int:
        return len(self._windows)

    def batch(self, numbers: Tensor) -> Batch:
        """The target is the input one byte later."""
        tokens = self._windows.index_select(0, numbers).long()
        return tokens[:, :-1], tokens[:, 1:]

    def scores(self) -> Tensor | None:
        return None if self._scores is None else self._scores.tensor


class FileWindows(Windows):
    """The windows of a part of a file that is never loaded whole."""

    def __init__(self, file: Unchanged, begin: int, end: int, context: int, scores: Stored | None = None) -> None:
        super().__init__(mapped(file.path, torch.uint8)[begin:end], context, scores, name=f"this part of {file.path}")
        self.file = file
        self._arguments = file, begin, end, context, scores

    def __reduce__(self) -> tuple[Any, ...]:
        return FileWindows, self._arguments

    def batch(self, numbers: Tensor) -> Batch:
        self.file.check()
        return super().batch(numbers)


def context_of(options: spec.Spec, where: str = "data") -> int:
    """How many tokens the model sees at a time.

    Raises:
        SpecError: it sees none, so it cannot learn from text.
    """
    if not options.context:
        raise spec.SpecError(
            f"model.kind = {options.model.kind!r}: sees no text, which {where} holds; "
            'set model.kind = "gpt", or other data'
        )
    return options.context


def stdlib_text(source: StdlibText, options: spec.Spec, where: str = "data") -> Data:
    """The top-level modules of Python's standard library in order of their names, cut off at `max_bytes`.

    Raises:
        SpecError: too little text for what the spec asks.
    """
    text, context = _stdlib(source.max_bytes), context_of(options, where)
    val = source.val_bytes or int(len(text) * source.val_fraction)
    if val >= len(text):
        raise spec.SpecError(f"{where}.val_bytes = {val}: the text has only {len(text)} bytes")
    tokens = torch.frombuffer(text, dtype=torch.uint8)
    digest = hashlib.sha256(text).hexdigest()
    end = len(text) - val
    scores = (
        _scores(lambda one, other: bytes(text[one:other]), end, context, {"sha256": digest})
        if source.difficulty
        else None
    )
    train, held_out = Windows(tokens[:end], context, scores), Windows(tokens[end:], context)
    sources = [{"path": "stdlib", "bytes": len(text), "sha256": digest}]
    return _data(train, held_out, sources, source, f"{digest} {val}")


def _stdlib(most: int) -> bytearray:
    text = bytearray()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += path.read_bytes()
        if len(text) >= most:
            break
    del text[most:]
    return text


def text_file(source: TextFile, options: spec.Spec, where: str = "data") -> Data:
    """A file of any size as bytes, its end, or another file, held out.

    Raises:
        SpecError: it cannot be read, or it is too short for what the spec asks.
    """
    context = context_of(options, where)
    file, begin, facts = _opened(source.path, f"{where}.path")
    held_out = int((file.size - begin) * source.val_fraction) if source.val_path is None else 0
    end = file.size - held_out
    scores = None
    if source.difficulty:
        scores = _scores(
            lambda one, other: file.read(begin + one, begin + other), end - begin, context, identity(file.path)
        )
    train = FileWindows(file, begin, end, context, scores)
    if source.val_path is None:
        val, split, sources = FileWindows(file, end, file.size, context), f"{file.digest} {held_out}", [facts]
    else:
        other, first, more = _opened(source.val_path, f"{where}.val_path")
        val, split = FileWindows(other, first, other.size, context), f"{file.digest} {other.digest}"
        sources = [facts, more]
    return _data(train, val, sources, source, split)


def _opened(path: str, where: str) -> tuple[Unchanged, int, dict[str, Any]]:
    """The file, where its text begins behind a mark, and what was found in it."""
    name = checked(path, where)
    key = identity(name)
    with name.open("rb") as opened:
        begin = len(BOM) if opened.read(len(BOM)) == BOM else 0
        size = os.fstat(opened.fileno()).st_size
        digest = cache.found("text", key, lambda: {"sha256": sha256(opened.fileno(), size)})["sha256"]
    return Unchanged(name, size, digest), begin, {"path": path, "bytes": size, "sha256": digest}


def _scores(read: Callable[[int, int], bytes], size: int, context: int, key: Mapping[str, Any]) -> Stored:
    """How badly zlib packs each window: packed size / size. What it packs well is repetition, which is easily learned.

    Args:
        read: the bytes of the text from a place up to another.
        size: bytes of the text.
        context: of a window.
        key: what the text is known by.
    """

    def write(folder: Path) -> None:
        places = range(0, size - context, context)
        packed = (len(zlib.compress(read(place, place + context + 1), _QUICK)) for place in places)
        with (folder / "scores").open("wb") as file:
            while some := array.array("f", (length / (context + 1) for length in itertools.islice(packed, _SCORES))):
                some.tofile(file)

    folder = cache.kept("zlib", {**key, "size": size, "context": context}, write)
    return Stored(folder / "scores", torch.float32)


def _data(
    train: Windows, val: Windows, sources: list[dict[str, Any]], source: StdlibText | TextFile, content: str
) -> Data:
    return Data(
        train,
        val,
        task="language",
        inputs=(train.context,),
        outputs=VOCABULARY,
        fingerprint=hashlib.sha256(f"text {content}".encode()).hexdigest()[:16],
        facts={"kind": source.kind, "train": len(train), "val": len(val), "sources": sources},
        text=True,
    )
