"""What the processes of one training do together: alone, or as torchrun has started them."""

from __future__ import annotations

import os

from trainer import spec
from trainer.distributed.alone import ALONE, Alone

__all__ = ["ALONE", "Alone", "join"]


def join(options: spec.Spec) -> Alone:
    """The processes that share this training: those that torchrun has started, or this one alone.

    Raises:
        SpecError: what the spec asks for cannot be done by several processes, or the others cannot be met.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    from trainer.distributed.torchrun import Torchrun  # noqa: PLC0415 - nobody else needs it

    return Torchrun(options)
