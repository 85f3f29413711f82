"""`trainer prune`: old checkpoints of one experiment go, the newest and the best stay."""

from __future__ import annotations

from pathlib import Path

from contract import Exit
from trainer import known
from trainer.checkpoints.files import Saved, remove, saved, whole
from trainer.checkpoints.retention import Policy, superfluous
from trainer.errors import SpecError


def tidy(folder: Path, policy: Policy, *, dry_run: bool) -> Exit:
    """Removes the checkpoints of single steps that no rule of `policy` keeps, or tells which it would.

    Raises:
        SpecError: there is no experiment, or a file cannot be removed.
    """
    experiment = known.read_record(folder)
    policy = policy._replace(direction=experiment.metric.get("direction", "min"))
    there = saved(folder)
    size = {one.step: _size(one) for one in there}
    gone = _superfluous(there, policy)
    try:
        for one in () if dry_run else gone:
            remove(one)
    except OSError as error:
        raise SpecError(f"{error.filename}: cannot be removed ({error.strerror})") from None
    verb = "would be removed" if dry_run else "removed"
    for one in gone:
        print(f"{one.path}: {verb}, {size[one.step] / 2**20:,.1f} MiB")
    freed = sum(size[one.step] for one in gone) / 2**20
    print(f"{len(there) - len(gone)} of {len(there)} checkpoints stay, {freed:,.1f} MiB {verb}")
    return Exit.FINISHED


def _superfluous(there: list[Saved], policy: Policy) -> list[Saved]:
    """What no rule keeps, without the newest sound one: a run goes on from that."""
    gone = superfluous(there, policy)
    newest = next((one for one in reversed(there) if whole(one.path)), None)
    if newest in gone:
        print(f"{newest.path}: stays, since every newer one is damaged")
        gone.remove(newest)
    return gone


def _size(one: Saved) -> int:
    try:
        return one.path.stat().st_size
    except OSError:
        return 0
