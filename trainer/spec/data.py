"""`[data]`: what is learned from, and what is held out to examine on."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from trainer.spec.section import Count, Own, Positive, Section, kind_of

HeldOut = Annotated[float, Field(gt=0, lt=1)]


class _Source(Section):
    weight: float = Field(default=1.0, gt=0)
    """In a mixture: how often samples are drawn from here, beside the other sources' weights."""


class StdlibText(_Source):
    """The text of Python's standard library: on every machine, always in the same order."""

    kind: Literal["stdlib-text"] = "stdlib-text"
    max_bytes: int = Field(default=1_000_000, ge=256)
    """Where the text is cut off."""
    val_fraction: HeldOut = 0.1
    """Held out to examine on: the end of the text."""
    val_bytes: int | None = Field(default=None, ge=64)
    """Bytes held out, in place of `val_fraction`."""
    difficulty: Literal["zlib"] | None = None
    """Score samples by how badly zlib packs them (packed size / size), for a curriculum."""


class TextFile(_Source):
    """A text file, read as bytes, in windows of `model.context` side by side; it is never loaded whole."""

    kind: Literal["text"]
    path: str
    """Relative to the current folder."""
    val_fraction: HeldOut = 0.1
    """Held out to examine on: the end of the file."""
    val_path: str | None = None
    """A file to examine on, in place of a part of `path`."""
    difficulty: Literal["zlib"] | None = None
    """Score samples by how badly zlib packs them, for a curriculum."""


class Digits(_Source):
    """8x8 images of handwritten digits, 1,797 of them, as scikit-learn brings them (an extra)."""

    kind: Literal["digits"]
    val_fraction: HeldOut = 0.2
    """Held out to examine on."""
    split_seed: Count = 0
    """The split follows from this alone, so that runs with other seeds are examined on the same samples."""


class Records(_Source):
    """One sample per record of a JSONL or CSV file; an index is kept, the file is never loaded whole.

    Either `text` names the field of a document (trained on as bytes, each cut or padded to `model.context`), or
    `features` and `target` name numbers in and what is to be predicted.
    """

    kind: Literal["jsonl", "csv"]
    path: str
    """Relative to the current folder."""
    text: str | None = None
    """The field with the document."""
    features: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Numbers, in this order; a JSONL field may also be a list of numbers, of any nesting."""
    target: str | None = None
    """A number to predict, or a label: a text or a whole number."""
    normalize: bool = False
    """Shift and scale each feature (and a regression's target never) by the first 10,000 training records."""
    difficulty: str | None = None
    """The field with a score for a curriculum: the larger, the harder."""
    val_fraction: HeldOut = 0.1
    """Held out to examine on."""
    val_path: str | None = None
    """A file to examine on, in place of a part of `path`."""
    split_seed: Count = 0
    """The split follows from this alone, so that runs with other seeds are examined on the same records."""
    bad_records: Literal["fail", "skip"] = "fail"
    """What happens when a record is malformed or lacks a field; either way it is counted, and the first are named."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """Of a CSV file, one character."""

    @model_validator(mode="after")
    def _text_or_features(self) -> Self:
        if (self.text is None) == (not self.features or self.target is None):
            raise ValueError('name either text = "FIELD" or both features = ["FIELD", …] and target = "FIELD"')
        return self


class OwnData(_Source):
    """Your own: `kind = "package.module:load"` is called with `options` and returns (train, val).

    Each of the two has a length, and an item for each number below it: a pair of tensors, input and target.
    """

    kind: Own
    options: dict[str, Any] = Field(default_factory=dict)
    """What it is called with."""


def _kind(document: Any) -> str:
    kind = kind_of(document, "stdlib-text")
    return "jsonl" if kind == "csv" else kind


Source = Annotated[
    Annotated[StdlibText, Tag("stdlib-text")]
    | Annotated[TextFile, Tag("text")]
    | Annotated[Digits, Tag("digits")]
    | Annotated[Records, Tag("jsonl")]
    | Annotated[OwnData, Tag("own")],
    Discriminator(_kind),
]


class Mixture(Section):
    """Several sources, drawn from by weight in a fixed order; every source is shuffled by itself, again and again."""

    kind: Literal["mixture"]
    sources: Annotated[tuple[Source, ...], Field(strict=False, min_length=2)]


Data = Annotated[
    Annotated[StdlibText, Tag("stdlib-text")]
    | Annotated[TextFile, Tag("text")]
    | Annotated[Digits, Tag("digits")]
    | Annotated[Records, Tag("jsonl")]
    | Annotated[OwnData, Tag("own")]
    | Annotated[Mixture, Tag("mixture")],
    Discriminator(_kind),
]


class Loading(Section):
    """How samples come from the disk to the model."""

    workers: Count = 0
    """Processes that read ahead; what they deliver does not depend on how many there are."""
    prefetch: Positive = 2
    """Batches that each of them reads ahead."""
