"""`[optimizer]` and `[schedule]`: how the weights move, and how fast at which step."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainer.spec.section import Count, Fraction, Pattern, Positive, Section, Share


class Group(Section):
    """Parameters that are treated in their own way; the first group that matches a name counts."""

    match: Pattern
    """Searched for in the names of parameters."""
    lr_scale: float = Field(default=1.0, ge=0)
    """Times the learning rate of the schedule."""
    weight_decay: float | None = Field(default=None, ge=0)
    """None: as everywhere; a number counts for vectors as well."""


class Optimizer(Section):
    """How the weights move."""

    kind: Literal["adamw", "adam", "sgd", "lion", "muon"] = "adamw"
    """Muon takes the matrices inside the model and leaves everything else to AdamW."""
    lr: float = Field(default=1e-3, ge=0)
    """The highest, which the schedule scales."""
    betas: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = (0.9, 0.95)
    """Of Adam, AdamW and Lion, and of the AdamW beside Muon."""
    weight_decay: float = Field(default=0.1, ge=0)
    """On matrices only: biases, norms and other vectors are left out."""
    momentum: Fraction = 0.9
    """Of SGD and Muon."""
    groups: Annotated[tuple[Group, ...], Field(strict=False)] = ()


class Schedule(Section):
    """The learning rate at each step."""

    kind: Literal["constant", "cosine", "linear", "step", "one-cycle", "wsd"] = "cosine"
    """`wsd` is warm-up, stable, decay (arXiv:2405.18392)."""
    warmup_steps: Count = 0
    """Steps on a straight line to the highest rate; of one-cycle the share `pct_start` takes its place."""
    decay_steps: Positive | None = None
    """The step at which the decay has arrived at its end, warm-up included; the last step of the run when not given."""
    final_lr_ratio: Share = 0.1
    """Of the highest rate, at the end of cosine, linear and wsd."""
    step_size: Positive = 1000
    """Of `step`: steps from one drop to the next."""
    gamma: float = Field(default=0.5, gt=0, le=1)
    """Of `step`: what each drop leaves."""
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """Of `wsd`: the share of the run, at its end, in which the rate falls on a straight line."""
    pct_start: float = Field(default=0.3, gt=0, lt=1)
    """Of `one-cycle` (Smith and Topin, arXiv:1708.07120): the share of the run in which the rate rises."""
    div_factor: float = Field(default=25.0, ge=1)
    """Of `one-cycle`: it begins at lr / div_factor …"""
    final_div_factor: float = Field(default=1e4, ge=1)
    """… and ends at that / final_div_factor."""

    @model_validator(mode="after")
    def _warmup_ends_before_decay(self) -> Self:
        if self.decay_steps is not None and self.warmup_steps >= self.decay_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} leave nothing of decay_steps {self.decay_steps}")
        if self.kind == "one-cycle" and self.warmup_steps:
            raise ValueError("one-cycle has a rise of its own (pct_start); leave warmup_steps out")
        return self
