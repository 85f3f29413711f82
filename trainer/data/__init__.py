"""What is learned from, and what is held out to examine on: `load` gives both, `Loader` serves them."""

from __future__ import annotations

from trainer import spec
from trainer.data.digits import digits
from trainer.data.loader import Loader
from trainer.data.mixture import mixture
from trainer.data.own import own
from trainer.data.plan import Position
from trainer.data.records import records
from trainer.data.samples import IGNORED, Batch, Data, Micro, Samples
from trainer.data.text import stdlib_text, text_file
from trainer.spec.data import Data as Source
from trainer.spec.data import Digits, OwnData, Records, StdlibText, TextFile

__all__ = ["IGNORED", "Batch", "Data", "Loader", "Micro", "Position", "Samples", "load"]

_FEWEST_CLASSES = 2


def load(options: spec.Spec) -> Data:
    """The data that a spec names.

    Raises:
        SpecError: they cannot be learned from; the message says where, what stands there, and what to do about it.
    """
    found = _loaded(options.data, options, "data")
    if found.task == "classification" and found.outputs < _FEWEST_CLASSES:
        only = ", ".join(str(label) for label in found.facts.get("labels", []))
        raise spec.SpecError(f"data: all targets are the same, {only}, so there is nothing to tell apart")
    return found


def _loaded(source: Source, options: spec.Spec, where: str) -> Data:
    match source:
        case StdlibText():
            return stdlib_text(source, options, where)
        case TextFile():
            return text_file(source, options, where)
        case Records():
            return records(source, options, where)
        case Digits():
            return digits(source, where)
        case OwnData():
            return own(source, options.seed, where, text=options.task == "language")
    found = [_loaded(each, options, f"{where}.sources.{number}") for number, each in enumerate(source.sources)]
    return mixture(found, [each.weight for each in source.sources], where)
