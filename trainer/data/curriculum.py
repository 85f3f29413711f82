"""From easy to hard samples: which of them are shown at a step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer import spec
from trainer.data.samples import Samples
from trainer.spec.train import Curriculum

_MARGIN = 0.1
"""Samples that are a bit harder than the difficulty are shown too, so that there is always something to learn."""
_ROUNDING = 1e-9
_STEEPNESS = 3.0
"""Of the exponential: half of the time is spent on the easiest fifth."""
_BLOCK = 1 << 20
"""Scores looked at together: they may lie on the disk, and be more than fit into memory."""


def difficulty(options: Curriculum, step: int, total_steps: int) -> float:
    """How hard samples may be at a step (the first is 1), from 0 to 1."""
    if options.kind == "constant":
        return options.start
    length = options.steps or total_steps
    done = min(1.0, (step - 1) / max(1, length - 1))
    return options.start + (1 - options.start) * _risen(options, done)


def _risen(options: Curriculum, done: float) -> float:
    if options.kind == "exponential":
        return math.expm1(_STEEPNESS * done) / math.expm1(_STEEPNESS)
    if options.kind == "step":
        return math.floor(done * options.stairs + _ROUNDING) / options.stairs
    return done


def changes(options: spec.Spec, total_steps: int) -> list[int]:
    """Steps from which on many more samples are shown at once, so that the loss may jump although all is well.

    Args:
        options: its `curriculum` counts, if it has one.
        total_steps: length of the run.

    Returns:
        In rising order, none for a difficulty that does not jump.
    """
    plan = options.curriculum
    if plan is None or plan.kind != "step":
        return []
    last = max(1, (plan.steps or total_steps) - 1)
    rises = {math.ceil(stair * last / plan.stairs - _ROUNDING) + 1 for stair in range(1, plan.stairs + 1)}
    jumps = (step for step in rises if 1 < step <= total_steps)
    return sorted(step for step in jumps if _jumps(plan, step, total_steps))


def _jumps(plan: Curriculum, step: int, total_steps: int) -> bool:
    return difficulty(plan, step, total_steps) > difficulty(plan, step - 1, total_steps)


class Eligible:
    """Which samples are shown at which step."""

    def __init__(self, samples: Samples, options: spec.Spec, total_steps: int) -> None:
        """Finds the range of the scores.

        Raises:
            SpecError: samples have no scores, or not a number for each, or the length of the run is unknown.
        """
        self.options, scores = options.curriculum or Curriculum(), samples.scores()
        if scores is None:
            raise spec.SpecError(
                'curriculum: the samples have no scores; set data.difficulty = "zlib" for text, '
                "or to the field of a jsonl or csv file that says how hard a record is"
            )
        if len(scores) != len(samples):
            raise spec.SpecError(f"curriculum: {len(scores)} scores for {len(samples)} samples")
        if options.train.steps is None:
            raise spec.SpecError(
                "curriculum: an epoch is shorter while samples are passed over, so the length of the run must be in "
                "steps; set train.steps in place of train.epochs"
            )
        self.scores, self.total_steps = scores, total_steps or options.train.steps
        self.easiest, self.hardest = _range(scores)

    def of(self, numbers: Tensor, step: int) -> Tensor:
        """A bool for each sample. The easiest ones are shown at every step: there is always something to learn."""
        width = self.hardest - self.easiest
        if not width:
            return torch.ones(len(numbers), dtype=torch.bool)
        scaled = (self.scores.index_select(0, numbers).double() - self.easiest) / width
        return scaled <= difficulty(self.options, step, self.total_steps) + _MARGIN + _ROUNDING


def _range(scores: Tensor) -> tuple[float, float]:
    """The lowest and the highest score.

    Raises:
        SpecError: one is not finite.
    """
    low, high = math.inf, -math.inf
    for begin in range(0, len(scores), _BLOCK):
        block = scores[begin : begin + _BLOCK].double()
        if not bool(block.isfinite().all()):
            number = begin + int((~block.isfinite()).nonzero()[0])
            raise spec.SpecError(f"curriculum: the score of sample {number} is {float(scores[number])}")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    return low, high
