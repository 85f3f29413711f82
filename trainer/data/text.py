"""Text as training data: windows of bytes, side by side."""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from trainer import spec
from trainer.data.samples import Batch, Data
from trainer.spec.data import StdlibText

VOCABULARY = 256
"""A token is a byte."""


class Windows:
    """The windows of a text. Each has one byte more than the context, which it shares with its neighbour."""

    def __init__(self, text: Tensor, context: int, scores: Tensor | None = None) -> None:
        """Windows over a text (uint8, one dimension).

        Raises:
            SpecError: there is not even one.
        """
        if len(text) < context + 1:
            raise spec.SpecError(f"model.context = {context}: longer than the text, which has {len(text)} bytes")
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
        return self._scores


def context_of(options: spec.Spec) -> int:
    """How many tokens the model sees at a time.

    Raises:
        SpecError: it sees none, so it cannot learn from text.
    """
    if not options.context:
        raise spec.SpecError(
            f"model.kind = {options.model.kind!r}: sees no text, which data.kind = {options.data.kind!r} is; "
            'set model.kind = "gpt", or other data'
        )
    return options.context


def stdlib_text(source: StdlibText, options: spec.Spec) -> Data:
    """The top-level modules of Python's standard library in order of their names, cut off at `max_bytes`.

    Raises:
        SpecError: too little text for what the spec asks.
    """
    text, context = _stdlib(source.max_bytes), context_of(options)
    val = source.val_bytes or int(len(text) * source.val_fraction)
    if val >= len(text):
        raise spec.SpecError(f"data.val_bytes = {val}: the text has only {len(text)} bytes")
    tokens = torch.frombuffer(text, dtype=torch.uint8)
    train, held_out = Windows(tokens[:-val], context), Windows(tokens[-val:], context)
    digest = hashlib.sha256(text).hexdigest()
    found = {"path": "stdlib", "bytes": len(text), "sha256": digest}
    return Data(
        train,
        held_out,
        task="language",
        inputs=(context,),
        outputs=VOCABULARY,
        fingerprint=hashlib.sha256(f"text {digest} {val}".encode()).hexdigest()[:16],
        facts={"kind": source.kind, "train": len(train), "val": len(held_out), "sources": [found]},
        text=True,
    )


def _stdlib(most: int) -> bytearray:
    text = bytearray()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text += path.read_bytes()
        if len(text) >= most:
            break
    del text[most:]
    return text
