"""What a process has started, and what that has started: data-loader workers, compilers, subprocesses.

A parent link is only believed of a parent that was the same process before and after the link was read, so a pid that
somebody else was given meanwhile leads nowhere. Process groups prove less: a group may hold a shell's other jobs, and a
worker may have left it. What has been taken over by init before anybody looked is not found, and not touched.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import contract
from checker import process

MOST = 1024
"""Processes that are found; they are journaled, and no training has as many."""

_MOST_FILES = 4096
"""Open files of a process that are looked at."""


def below(roots: Iterable[contract.Process], folder: Path, proc: Path = process.PROC) -> list[contract.Process]:
    """Every living process that descends from `roots`, parents first; not those that belong to another run.

    The checker itself, which a trainer may have started, is none of them, nor is anything that the checker has started.

    Args:
        roots: processes that are proven; those that have ended or are known nowhere have no descendants.
        folder: the run's folder.
        proc: the process table.
    """
    links = _links(proc)
    seen = {os.getpid()}
    found: list[contract.Process] = []
    waiting = [root for root in roots if links and process.same(root, proc)]
    while waiting and len(found) < MOST:
        parent = waiting.pop(0)
        if parent.pid in seen:
            continue
        seen.add(parent.pid)
        for child in _children(parent, links[parent.pid], proc):
            if child.pid not in seen and not _of_another_run(child.pid, folder, proc):
                waiting.append(child)
                found.append(child)
    return found[:MOST]


def _links(proc: Path) -> dict[int, list[int]]:
    """The pids that name each pid as their parent, as read at slightly different moments."""
    links: dict[int, list[int]] = defaultdict(list)
    try:
        names = os.listdir(proc)
    except OSError:
        return links
    for name in names:
        if name.isdecimal() and (known := process.stat_of(int(name), proc)) is not None:
            links[known.parent].append(int(name))
    return links


def _children(parent: contract.Process, pids: Iterable[int], proc: Path) -> Iterator[contract.Process]:
    """Those of `pids` that are proven to be living children of `parent`."""
    read = [(pid, process.stat_of(pid, proc)) for pid in pids] if process.same(parent, proc) else []
    if process.same(parent, proc):  # and was so in between: what named it as its parent meant it
        for pid, known in read:
            if known is not None and known.parent == parent.pid and known.state not in "ZXx":
                yield replace(parent, pid=pid, started=known.started)


def _of_another_run(pid: int, folder: Path, proc: Path) -> bool:
    """Whether a process has the log of another run open: a sweep or a notebook may have started a run of its own."""
    home = os.path.realpath(folder)
    own = {os.path.realpath(folder / contract.METRICS), os.path.join(home, contract.METRICS)}
    place = proc / str(pid) / "fd"
    try:
        names = os.listdir(place)[:_MOST_FILES]
    except OSError:  # ended, or another user's, which nobody here can signal
        return False
    for name in names:
        try:
            target = os.readlink(place / name)
        except OSError:
            continue
        if os.path.basename(target) == contract.METRICS and target not in own:
            return True
    return False
