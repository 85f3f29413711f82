"""What really happened to the members of a program, before a logger forgets most of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from labels import Fate
from loggers import Look
from torch import Tensor


@dataclass(frozen=True)
class Truth:
    """One row per step in the order of time, one column per member; a resumed member has some steps twice."""

    step: Tensor
    """Counted from 0."""
    train: Tensor
    """The mean printed loss of the batch, before the update."""
    grad: Tensor
    """The norm of the gradient before clipping."""
    lr: Tensor
    active: Tensor
    """Whether the member was still training; the rest of its column means nothing."""
    val_at: tuple[int, ...]
    """After which rows everybody was evaluated."""
    val: Tensor
    """One row per evaluation."""
    sound: Tensor
    """Per member: whether the weights are finite at the end."""

    def looks(self, column: int) -> list[Look]:
        """What happened to one member, in the order of time."""
        evaluated = {at: self.val[row, column].item() for row, at in enumerate(self.val_at)}
        active = self.active[:, column].tolist()
        columns = [values[:, column].tolist() for values in (self.step, self.train, self.grad, self.lr)]
        return [
            Look(step + 1, train, grad, lr, evaluated.get(now))
            for now, (step, train, grad, lr) in enumerate(zip(*columns, strict=True))
            if active[now]
        ]

    def fate(self, column: int, steps: int) -> Fate:
        """How one member went; of what was done twice, the last."""
        active, step = self.active[:, column].numpy(), self.step[:, column].numpy()
        train = np.full(steps, np.nan)
        train[step[active]] = self.train[:, column].numpy()[active]
        kept = [row for row, at in enumerate(self.val_at) if active[at]]
        at = step[[self.val_at[row] for row in kept]]
        return Fate(train, self.val[kept, column].numpy(), at, bool(self.sound[column]))
