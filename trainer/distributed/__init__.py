"""What the processes of one training do together: alone, or as torchrun has started them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trainer import spec
from trainer.distributed.alone import ALONE, Alone
from trainer.ranks import world_size

__all__ = ["ALONE", "Alone", "joined"]


@contextmanager
def joined(options: spec.Spec) -> Iterator[Alone]:
    """The processes that share this training: those that torchrun has started, or this one alone.

    Raises:
        SpecError: what the spec asks for cannot be done by several processes.
    """
    if world_size() == 1:
        yield ALONE
        return
    from trainer.distributed.torchrun import Torchrun  # noqa: PLC0415 - nobody else needs it

    ranks = Torchrun(options)
    try:
        yield ranks
    finally:
        ranks.close()
