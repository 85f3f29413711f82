"""What is learned from, and what is held out to examine on: `load` gives both, `Loader` serves them."""

from __future__ import annotations

from trainer import spec
from trainer.data.digits import digits
from trainer.data.loader import Loader
from trainer.data.plan import Position
from trainer.data.samples import IGNORED, Batch, Data, Micro, Samples
from trainer.data.text import stdlib_text, text_file
from trainer.spec.data import Digits, StdlibText, TextFile

__all__ = ["IGNORED", "Batch", "Data", "Loader", "Micro", "Position", "Samples", "load"]


def load(options: spec.Spec) -> Data:
    """The data that a spec names.

    Raises:
        SpecError: they cannot be learned from; the message says where, what stands there, and what to do about it.
    """
    source = options.data
    if isinstance(source, StdlibText):
        return stdlib_text(source, options)
    if isinstance(source, TextFile):
        return text_file(source, options)
    if isinstance(source, Digits):
        return digits(source)
    raise spec.SpecError(f"data.kind = {source.kind!r}: is not there yet")
