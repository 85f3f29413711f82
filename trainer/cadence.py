"""How often a run saves itself, for any kind of training: epochs, boosting rounds, trials. Standard library only."""

from __future__ import annotations


def should_checkpoint(epoch: int, total_epochs: int, *, every: int = 10, is_best: bool = False) -> bool:
    """Whether a checkpoint is due at the end of `epoch`.

    It is for the best epoch so far, for every `every`-th epoch and for the last one that is planned. An epoch outside
    the plan is saved only when it is the best: what was not asked for is kept only when it is worth it.

    Args:
        epoch: the epoch that has just ended, counted from 0.
        total_epochs: how many are planned; 0 when none is.
        every: epochs from one checkpoint to the next; less than 1 acts as 1, so that no value switches saving off.
        is_best: whether the model has never been better than now.
    """
    if is_best:
        return True
    if not 0 <= epoch < total_epochs:
        return False
    return epoch == total_epochs - 1 or (epoch + 1) % max(every, 1) == 0
