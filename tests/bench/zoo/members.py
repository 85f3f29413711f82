"""Who takes part in a program: plain runs, odd ones, and faulty twins of the plain ones."""

from __future__ import annotations

import random
from dataclasses import dataclass

from programs import Program
from twists import FAULTS, ODDITIES, Story

PLAIN, ODD, FAULTY = 44, 44, 52
"""Members of every program. Each faulty one has a plain one for a twin."""

UNSUPERVISED = frozenset({"autoencoder", "gaussian-autoencoder", "vae", "denoiser", "contrastive", "gan"})
"""Models that learn from inputs alone."""

LOG_OF_CHANCE = frozenset({"naive-mlp", "autoencoder"})
"""Models that take the logarithm of a probability."""

ONE_LAYER = frozenset({"linear", "linear-regression"})


@dataclass(frozen=True)
class Member:
    """One run of a program."""

    story: Story
    seed: int
    lr: float
    """Times the program's learning rate; the same for a run and its twin."""
    twin: int | None = None
    """For a faulty run: which member is the same without the fault."""


def applies(program: Program, name: str) -> bool:
    """Whether the fault or oddity means anything to this program."""
    text = program.data == "text"
    return not (
        (program.model in UNSUPERVISED and "label" in name)
        or (program.model in UNSUPERVISED and name in ("more-data-noise", "data-mix", "curriculum"))
        or (text and name in ("bad-batch", "nan-batch", "unscaled", "unscaled-from-then", "spike", "dead-relu"))
        or (name == "log-zero" and program.model not in LOG_OF_CHANCE)
        or (name == "fp16-overflow" and not program.half)
        or (name == "no-clip" and not program.clip)
        or (name == "dead-relu" and program.model in ONE_LAYER | {"gan"})
        or (name in ("frozen", "unfreezing") and program.model in ONE_LAYER)
    )


def members(program: Program) -> list[Member]:
    """The runs of a program, always in this order; all chance comes from the program's name."""
    chance = random.Random(program.name)
    rates = [chance.uniform(0.5, 1.5) for _ in range(PLAIN + ODD)]
    odd = [recipe for name, recipe in ODDITIES.items() if applies(program, name)]
    bad = [recipe for name, recipe in FAULTS.items() if applies(program, name)]
    plain = [Member(Story(), seed, rates[seed]) for seed in range(PLAIN)]
    strange = [Member(odd[k % len(odd)](chance), PLAIN + k, rates[PLAIN + k]) for k in range(ODD)]
    sick = [Member(bad[k % len(bad)](chance), k % PLAIN, rates[k % PLAIN], twin=k % PLAIN) for k in range(FAULTY)]
    return plain + strange + sick


def run_name(program: Program, column: int, member: Member) -> str:
    """The name of a run's log, and its id in the table of labels."""
    return f"{program.name}-{column:03d}-{member.story.name}"
