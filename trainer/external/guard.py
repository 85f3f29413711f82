"""Ends a program and everything that it has started, also when `trainer exec` itself is killed without a goodbye.

`trainer exec` starts this file as a process of its own, before the program, and holds the other end of its standard
input: when that closes without `done`, whoever held it is dead. A parent-death signal would reach the program only,
not what the program has started. Run with `python -I`, so it needs the standard library and nothing beside it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "TRAINER_RUN_ID"
"""In the environment of the program, and so of all that it starts, whatever session or parent they choose."""

PROC = Path("/proc")
GRACE_SECONDS = 10.0
"""Between SIGTERM and SIGKILL: what init systems and schedulers allow at least."""
_KILL_SECONDS = 5.0
"""A process that is still there so long after SIGKILL waits for a disk or a device and cannot be ended by anybody."""
_PACE_SECONDS = 0.02


def marked(run_id: str) -> list[int]:
    """The living processes that carry the run's mark; none can be told where the system has no `/proc`."""
    wanted, found = f"{MARK}={run_id}".encode(), []
    for name in os.listdir(PROC) if PROC.is_dir() else []:
        if name.isdigit():
            with suppress(OSError):  # gone meanwhile, or another user's
                if wanted in (PROC / name / "environ").read_bytes().split(b"\0"):  # a zombie's is empty
                    found.append(int(name))
    return found


def tell(run_id: str, group: int, signum: int) -> None:
    """Sends a signal to the process group (0: none) and to every marked process that has left it, once to each."""
    outside = [pid for pid in marked(run_id) if not group or _group_of(pid) not in (group, None)]
    if group:
        with suppress(OSError):
            os.killpg(group, signum)
    for pid in outside:
        with suppress(OSError):
            os.kill(pid, signum)


def _group_of(pid: int) -> int | None:
    with suppress(OSError):
        return os.getpgid(pid)
    return None


def sweep(run_id: str, group: int, grace: float = GRACE_SECONDS) -> int:
    """Ends whatever is left: SIGTERM, up to `grace` seconds, SIGKILL. Returns how many processes there were."""
    there = len(marked(run_id))
    if there:
        tell(run_id, group, signal.SIGTERM)
        _wait_until_none(run_id, grace)
    deadline = time.monotonic() + _KILL_SECONDS
    tell(run_id, group, signal.SIGKILL)  # also for those of the group that have emptied their environment
    while marked(run_id) and time.monotonic() < deadline:
        tell(run_id, group, signal.SIGKILL)
        time.sleep(_PACE_SECONDS)
    return there


def _wait_until_none(run_id: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while marked(run_id) and time.monotonic() < deadline:
        time.sleep(_PACE_SECONDS)


def main(run_id: str, spec: Path, parent: str) -> None:
    """Waits for the end of `trainer exec`, process `parent`; without `done` ends the program and clears up.

    The first line that comes in is the program's process group.
    """
    group = 0
    for line in sys.stdin:
        if line.strip() == "done":
            return
        group = int(line)
    for left in (spec, *spec.parent.glob(f".*.{parent}.*.tmp")):
        with suppress(OSError):
            left.unlink()
    sweep(run_id, group)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
