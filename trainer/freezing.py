"""Parameters that are left alone until a step. The optimizer knows them all along, so nothing is rebuilt."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from trainer.errors import SpecError, listed
from trainer.spec.train import Frozen


class Freezing:
    """What of a model is frozen when.

    Args:
        model: with `requires_grad` as it is when nothing is frozen.
        options: the spec's.

    Raises:
        SpecError: a pattern matches nothing, or nothing is left to train at first.
    """

    def __init__(self, model: nn.Module, options: Sequence[Frozen]) -> None:
        self._until: list[tuple[nn.Parameter, int]] = []
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        for one in options:
            if not any(re.search(one.match, name) for name in trained):
                raise SpecError(
                    f"frozen: {one.match!r} matches no parameter that is trained; there are {listed(trained)}"
                )
        for name, parameter in trained.items():
            steps = [one.until_step for one in options if re.search(one.match, name)]
            self._until.append((parameter, max(steps, default=0)))
        if options and all(until for _, until in self._until):
            raise SpecError("frozen: leaves nothing to train in the first step")
        self.switches = frozenset(until + 1 for _, until in self._until if until)
        """Steps that begin with more to train than the one before."""

    def apply(self, step: int) -> tuple[int, int]:
        """Has exactly those parameters learn that do at `step`; returns their number and that of all of them."""
        learning = 0
        for parameter, until in self._until:
            parameter.requires_grad_(step > until)
            learning += step > until
        return learning, len(self._until)
