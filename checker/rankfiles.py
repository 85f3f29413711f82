"""The files of the ranks of a distributed run, read without trust, and whether their processes live.

Asked for only where the status file tells of a distributed run. They are opened by their own names, never found by
listing, and never waited for; what is no regular file of a few hundred bytes is no file of a rank.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import contract
from checker import process
from checker.events import Life, Rank
from checker.rows import seconds
from checker.status import text, whole

MAX_SIZE = 1 << 16
"""Bytes. Such a file has half a KB, and an error may be long; a larger one is not read."""

MOST = 1 << 16
"""Ranks that are looked for, whatever the status file says."""

PORTION = 256
"""Files per look. The ranks of a larger run are looked at in turn, so that no run takes the time of the others."""

SHOWN = 32
"""Ranks that a look tells the judge of. A journaled look stays small, however many there are."""

_LONGEST = 500
"""Characters of a text that are kept."""


class Member(NamedTuple):
    """One rank: its file as last read, and its process."""

    stamp: contract.Stamp
    document: Mapping[str, Any]
    process: contract.Process | None
    gone_since: float | None = None
    life: Life = Life.UNKNOWN


class RankFiles:
    """The ranks of one run folder, other than rank 0; a file is read again only when it has changed."""

    __slots__ = ("_folder", "_known", "_next", "living")

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder / contract.RANKS)
        self._known: dict[int, Member] = {}
        self._next = 1
        self.living: tuple[Member, ...] = ()
        """Those of the present run whose process was proven to live, on this machine, at the last look."""

    def look(
        self,
        status: Mapping[str, Any],
        now: float,
        *,
        once: bool = False,
        life_of: Callable[[contract.Process | None], Life] = process.look,
    ) -> tuple[Rank, ...]:
        """The ranks of the run that `status` tells of, those first that others may wait for.

        Args:
            status: the document in the status file.
            now: seconds since 1970.
            once: there is no later look, so a process that is gone counts as gone since its last heartbeat.
            life_of: what is known about a process.
        """
        world = whole(status, "world_size")
        if world is None or world < 2:
            self._known, self.living = {}, ()
            return ()
        self._refresh(min(world, MOST))
        known = self._known.items()
        ours = {rank: member for rank, member in known if rank < world and _belongs(member.document, status)}
        for rank, member in ours.items():
            life = life_of(member.process)
            since = (seconds(member.document.get("updated_at")) if once else None) or now
            gone = (member.gone_since or since) if life is Life.GONE else None
            ours[rank] = self._known[rank] = member._replace(life=life, gone_since=gone)
        self.living = tuple(member for member in ours.values() if member.life in (Life.ALIVE, Life.STOPPED))
        told = sorted((_told(rank, member) for rank, member in ours.items()), key=_urgency)
        return tuple(told[:SHOWN])

    def _refresh(self, world: int) -> None:
        """Reads what has changed, a portion of the ranks at a time."""
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            self._known = {}
            return
        try:
            count = min(PORTION, world - 1)
            for rank in (1 + (self._next - 1 + offset) % (world - 1) for offset in range(count)):
                self._read(rank, folder)
            self._next = 1 + (self._next - 1 + count) % (world - 1)
        finally:
            os.close(folder)

    def _read(self, rank: int, folder: int) -> None:
        """Takes the file of one rank as it is now; one that cannot be read is none."""
        name = os.path.basename(contract.rank_file(rank))
        try:
            stamp = contract.stamp(os.stat(name, dir_fd=folder, follow_symlinks=False))
            known = self._known.get(rank)
            if known is not None and known.stamp == stamp:
                return
            document = _document(name, folder)
        except (OSError, contract.Unreadable):
            self._known.pop(rank, None)
            return
        if whole(document, "rank") != rank:
            self._known.pop(rank, None)
            return
        named = process.parse(document)
        same = known is not None and known.process == named
        self._known[rank] = Member(stamp, document, named, known.gone_since if known and same else None)


def _document(name: str, folder: int) -> dict[str, Any]:
    """The record in a file of which anything may be the matter.

    Raises:
        OSError: it cannot be opened.
        contract.Unreadable: it is no plain file, too large, or no record.
    """
    return contract.decode_object(contract.read_plain(name, MAX_SIZE, folder)[0], name)


_APART_SECONDS = 10.0
"""Ranks of one launch do not begin at once, and one that dies at its begin has written its file once, before rank 0."""


def _belongs(document: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Whether the file is about this run: of the same launch, and not written long before the run began.

    An earlier launch may have had the same name; a rank that lives has written its file within the last second.
    """
    if text(document, "launch") != text(status, "launch"):
        return False
    written, began = seconds(document.get("updated_at")), seconds(status.get("started_at"))
    return written is not None and began is not None and written >= began - _APART_SECONDS


def _told(rank: int, member: Member) -> Rank:
    document, named = member.document, member.process
    return Rank(
        rank=rank,
        pid=named.pid if named else None,
        host=_brief(named.host) if named else None,
        state=_brief(text(document, "state")),
        step=whole(document, "step"),
        phase=_brief(text(document, "phase")),
        beat_at=seconds(document.get("updated_at")),
        progress_at=seconds(document.get("progress_at")),
        life=member.life,
        gone_since=member.gone_since,
        error=_brief(text(document, "error")),
    )


def _brief(value: str | None) -> str | None:
    return None if value is None else value[:_LONGEST]


def _urgency(rank: Rank) -> tuple[bool, bool, bool, int, float, int]:
    """Who is lost or suspended comes first, then who is behind, and last who is done."""
    over = rank.state not in ("running", "failed")
    lost = not over and (rank.life is Life.GONE or rank.state == "failed")
    step = -1 if rank.step is None else rank.step
    return (not lost, rank.life is not Life.STOPPED, over, step, rank.beat_at or 0.0, rank.rank)
