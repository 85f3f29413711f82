"""What is fetched for a step, decided before anything is: so that others may fetch it ahead of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass
class Position:
    """Where in the data a run stands: the samples at the places before `index` of the shuffled epoch are done with."""

    epoch: int = 0
    index: int = 0


class Part(NamedTuple):
    """Which samples of a micro-batch this rank fetches, and what part of the group's loss they make."""

    numbers: Tensor
    share: float


class Plan(NamedTuple):
    """One optimizer step: where it begins, what is fetched, and where the next one begins."""

    begin: Position
    step: int
    parts: list[Part]
    end: Position
