"""The roll-call: every rule, most certain first. The order is the order of reports.

A rule is one module with three things: a docstring of four paragraphs (what it sees, why it matters, how it decides,
what to do), a frozen `Limits`, and `detect(history, limits)`, which answers whether it is true now and with what
evidence. It keeps nothing between two calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from checker.detectors import (
    budget,
    checkpoint_overdue,
    crash,
    dead_lr,
    divergence,
    drift,
    explosion,
    gradient_explosion,
    hidden_nan,
    loss_spike,
    nonfinite,
    oscillation,
    overfit,
    plateau,
    stall,
    suspicious_improvement,
    throughput,
    vanishing_gradient,
)
from checker.finding import Sighting
from checker.history import History
from checker.names import GRAD_NORM, LR, TRAIN_LOSS, VAL_LOSS


@dataclass(frozen=True)
class Rule:
    """One entry of the roll-call."""

    module: ModuleType
    needs: tuple[str, ...] = ()
    """Roles without which the rule cannot judge."""
    on_tick: bool = False
    """Asked when time passes, not when a row arrives."""
    on_final: bool = False
    """Asked once more when no rows will ever come again."""

    @cached_property
    def name(self) -> str:
        return self.module.__name__.rpartition(".")[2]

    @property
    def detect(self) -> Callable[[History, Any], Sighting | None]:
        detect: Callable[[History, Any], Sighting | None] = self.module.detect
        return detect

    @property
    def limits(self) -> Any:
        return self.module.LIMITS


RULES = (
    Rule(nonfinite, (TRAIN_LOSS,), on_final=True),
    Rule(hidden_nan, (GRAD_NORM,), on_final=True),
    Rule(gradient_explosion, (GRAD_NORM,)),
    Rule(explosion, (TRAIN_LOSS,)),
    Rule(divergence, (TRAIN_LOSS,)),
    Rule(stall, on_tick=True),
    Rule(crash, on_tick=True),
    Rule(budget, on_tick=True),
    Rule(dead_lr, (LR,)),
    Rule(overfit, (TRAIN_LOSS, VAL_LOSS)),
    Rule(drift, (TRAIN_LOSS,)),
    Rule(oscillation, (TRAIN_LOSS,)),
    Rule(vanishing_gradient, (GRAD_NORM,)),
    Rule(plateau, (TRAIN_LOSS,)),
    Rule(checkpoint_overdue, on_tick=True),
    Rule(throughput),
    Rule(loss_spike, (TRAIN_LOSS,)),
    Rule(suspicious_improvement, (TRAIN_LOSS,)),
)
