"""On what kind of file system a folder lies: on some, others' changes wake nobody, and locks end at the machine."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

TABLE = Path("/proc/self/mountinfo")

NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "orangefs",
    "pvfs2", "virtiofs", "vboxsf", "prl_fs", "vmhgfs", "ncpfs", "coda", "wekafs", "panfs",
})  # fmt: skip
"""Kinds that show what other machines write, of which this machine's kernel cannot know in time."""

LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuseblk", "fuse.mergerfs", "fuse.gocryptfs", "fuse.encfs"})
"""FUSE stands for anything; these only show local files."""


class Mount(NamedTuple):
    """A mounted file system."""

    kind: str
    """As `mount` calls it; empty where the system does not tell."""
    point: str

    @property
    def network(self) -> bool:
        """Whether other machines, or the host of this one, may change files in it."""
        return self.kind in NETWORK or (self.kind.startswith("fuse") and self.kind not in LOCAL_FUSE)


def mount(path: Path, table: Path = TABLE) -> Mount:
    """The file system that `path` lies on."""
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return Mount("", "")
    place, found = os.path.realpath(path), Mount("", "")
    for line in lines:
        fields, _, rest = line.partition(" - ")
        words, kinds = fields.split(), rest.split()
        if len(words) < 5 or not kinds:
            continue
        point = _plain(words[4])
        below = place == point or place.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(found.point):  # a later mount on the same point hides the earlier one
            found = Mount(kinds[0], point)
    return found


def _plain(text: str) -> str:
    """A field of the table, where spaces and such stand as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
