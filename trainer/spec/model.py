"""`[model]` and `[lora]`: what is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from trainer.spec.section import Fraction, Own, Pattern, Positive, Section, kind_of


class Gpt(Section):
    """A decoder-only transformer over bytes (pre-norm, learned positions, GPT-2's initialization)."""

    kind: Literal["gpt"] = "gpt"
    layers: Positive = 2
    """Blocks of attention and perceptron."""
    heads: Positive = 4
    """Of attention."""
    width: Positive = 64
    """Numbers for each token; divisible by `heads`."""
    context: Positive = 64
    """Tokens that it sees at a time."""
    dropout: Fraction = 0.0
    """Share of the activations that is set to 0 in training."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the weights at first."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Mlp(Section):
    """A perceptron with GELU between its layers."""

    kind: Literal["mlp"]
    layers: Positive = 2
    """Hidden layers."""
    width: Positive = 64
    """Of each."""
    dropout: Fraction = 0.0
    """Behind each hidden layer."""


class Cnn(Section):
    """Stages of two 3x3 convolutions with batch norm; each after the first halves the image; then the mean."""

    kind: Literal["cnn"]
    channels: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = (16, 32)
    """Of each stage."""
    dropout: Fraction = 0.0
    """Before the last layer."""


class OwnModel(Section):
    """Your own: `kind = "package.module:Net"` is called with `options` as keyword arguments."""

    kind: Own
    options: dict[str, Any] = Field(default_factory=dict)
    """What it is called with."""
    context: Positive = 64
    """Tokens that it sees at a time, where it is trained on text."""


def _kind(document: Any) -> str:
    return kind_of(document, "gpt")


Model = Annotated[
    Annotated[Gpt, Tag("gpt")]
    | Annotated[Mlp, Tag("mlp")]
    | Annotated[Cnn, Tag("cnn")]
    | Annotated[OwnModel, Tag("own")],
    Discriminator(_kind),
]


class Lora(Section):
    """Low-rank updates of frozen linear layers (Hu et al. 2021, arXiv:2106.09685); all else is frozen."""

    rank: Positive = 8
    """Rows of the one factor, columns of the other."""
    alpha: float = Field(default=16.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: Fraction = 0.0
    """On what goes into the update."""
    targets: Annotated[tuple[Pattern, ...], Field(strict=False, min_length=1)] = (".",)
    """Linear layers whose names match one of these."""
