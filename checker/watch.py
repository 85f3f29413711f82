"""An alarm clock for run folders. It says *look there*, never what happened; a poll says the same, only later.

Kernel notifications make it fast on a local disk. Network file systems do not send them for what other machines write,
watches can run out, and a log may be a link to another disk; what is not announced is found by looking, at the interval
that the user chose, and after the first such find the folder is looked at that often for good. Folders that are
announced are looked at all the same, now and then.
"""

from __future__ import annotations

import errno
import os
import queue
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from checker import places, source
from checker.inotify import Inotify, Overflow
from checker.mounts import mount
from checker.observer import Tree
from checker.places import ANYTHING, DEPTH, FOLDER

SWEEP_SECONDS = 30.0
"""In this time every folder that is announced is looked at once as well, a few at each poll."""

REST_SECONDS = 300.0
"""As above for finished runs: a hundred thousand of them cost as much as three thousand live ones."""


QUIET_SECONDS = 600.0
"""A log of another program that was not written to for so long is looked at as rarely as announced folders are: most of
last year's logs say nothing about being over."""


class Ears(Protocol):
    """What tells of changes."""

    def add(self, folder: Path) -> None: ...
    def remove(self, folder: Path) -> bool: ...
    def ring(self) -> None: ...
    def wait(self, seconds: float) -> dict[Path, int]: ...
    def close(self) -> None: ...


class _None:
    """No notifications: only the bell."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put is safe in a signal handler

    def add(self, folder: Path) -> None:
        """Nothing can be watched."""

    def remove(self, folder: Path) -> bool:  # noqa: ARG002
        return False

    def ring(self) -> None:
        self._queue.put(None)

    def wait(self, seconds: float) -> dict[Path, int]:
        with suppress(queue.Empty):
            self._queue.get(timeout=max(0.0, seconds))
        return {}

    def close(self) -> None:
        """Nothing is open."""


def ears(root: Path) -> Ears:
    """The fastest notifications that this system has.

    Raises:
        OSError, RuntimeError: it has none, or no more of them.
    """
    try:
        return Inotify()
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return Tree(root)


class Alarm:
    """Collects the run folders in which something may have changed since the last `wait`, and what.

    Args:
        root: where run folders are looked for.
        poll: seconds between two looks at a folder whose changes are not announced.
    """

    def __init__(self, root: Path, poll: float = 1.0) -> None:
        self.root, self.poll = root, poll
        self.refused: dict[Path, str] = {}
        """Folders that could not be looked into at the last look, and why."""
        self._troubles: list[str] = []
        self._undecided: dict[Path, str] = {}
        """Folders of which nobody can say what their log is, and why."""
        self._doubts: list[tuple[Path, str]] = []
        self._links = places.Links(root)
        self._ears: Ears = _None()
        self._known: dict[Path, int] = {}
        """Every run folder, with what its files looked like last."""
        self._groups: set[Path] = {root}
        """Folders in which run folders may appear."""
        self._resting: set[Path] = set()
        self._deaf: set[Path] = set()
        """Run folders and groups whose changes are not announced."""
        self._foreign: dict[Path, float] = {}
        """Run folders with the log of another program, and when it last changed, by the clock on the wall."""
        self._heard: set[Path] = set()
        """Run folders that were announced since they were last looked at."""
        self._suspects: set[Path] = set()
        """Changed without having been announced, so far: the notification may be under way."""
        self._rounds: dict[bool, Iterator[Path]] = {True: iter(()), False: iter(())}
        self._next_poll = 0.0
        self._next_listing = 0.0
        self._all_deaf = True
        self._told_deaf = False
        self._full = False
        """There are no watches left."""

    def start(self) -> None:
        """Begins to listen; when that is impossible, `troubles` says why and the poll carries on alone."""
        try:
            self._ears = ears(self.root)
            self._ears.add(self.root)
        except (OSError, RuntimeError) as error:
            self._ears.close()
            self._ears = _None()
            self._troubles.append(f"no file notifications ({error}); looking every {self.poll:g} s instead")
            return
        on = mount(self.root)
        self._all_deaf = on.network
        if self._all_deaf:
            told = f"file system {on.kind} does not tell what other machines write"
            self._troubles.append(f"{told}; looking every {self.poll:g} s as well")

    def troubles(self) -> list[str]:
        """Why changes are noticed more slowly than they might be; each is told once."""
        told, self._troubles = self._troubles, []
        return told

    def doubts(self) -> list[tuple[Path, str]]:
        """Folders that would be watched, if somebody said which of their files is the log; each is told once."""
        told, self._doubts = self._doubts, []
        return told

    def stop(self) -> None:
        self._ears.close()
        self._ears = _None()

    def ring(self) -> None:
        """Ends the present `wait`; safe in a signal handler."""
        self._ears.ring()

    def wait(self, timeout: float) -> dict[Path, int]:
        """Run folders that may have changed, with what was touched; returns after `timeout` seconds at the latest."""
        try:
            announced = self._ears.wait(min(timeout, self._next_poll - time.monotonic()))
        except Overflow:
            return self.look()
        woken: dict[Path, int] = {}
        for folder, touched in announced.items():
            if folder not in self._known:
                woken.update(self._came(folder))
                continue
            woken[folder] = touched
            self._heard.add(folder)
            if touched & FOLDER:
                self._again(folder)
        if time.monotonic() >= self._next_poll:
            woken.update(self._poll())
        return woken

    def rest(self, folder: Path) -> None:
        """From now on the folder is looked at rarely: its run is over."""
        self._resting.add(folder)

    def rouse(self, folder: Path) -> None:
        """The opposite of `rest`."""
        if folder in self._resting:
            self._resting.discard(folder)
            self._listen(folder)

    def attend(self, folder: Path) -> None:
        """The folder's log has another name than those announced: it is looked at at every poll while it grows."""
        if folder not in self._foreign:
            self._foreign[folder] = source.touched(folder)

    def look(self) -> dict[Path, int]:
        """Looks at everything: each run folder whose files are not as they were, new and vanished ones included."""
        self._next_poll = time.monotonic() + self.poll
        self._next_listing = time.monotonic() + SWEEP_SECONDS
        self._suspects.clear()
        woken = dict.fromkeys(self._list(), ANYTHING)
        woken.update((folder, ANYTHING) for folder in list(self._known) if self._changed(folder))
        return woken

    # ------------------------------------------------------------------------------------------------------ looking

    def _poll(self) -> dict[Path, int]:
        """The part of the looking that is due now."""
        now = time.monotonic()
        if self._all_deaf or not self._known:
            found = self.look()
            took = time.monotonic() - now  # on a slow disk looking must not be all that is done
            self._next_poll = time.monotonic() + max(self.poll - took, took)
            return found
        self._next_poll = now + self.poll
        unheard = {folder for folder in self._suspects if folder not in self._heard}
        if unheard:
            self._add_deaf(unheard)
        self._suspects = set()
        lately = time.time() - QUIET_SECONDS
        growing = {folder for folder, at in self._foreign.items() if at > lately or folder == self.root}
        each = (self._deaf | growing) & self._known.keys()
        woken = {folder: ANYTHING for folder in each if self._changed(folder)}
        for folder in self._slice():
            if folder in each:
                continue
            heard = folder in self._heard or folder in self._foreign
            if self._changed(folder):
                woken[folder] = ANYTHING
                if not heard:
                    self._suspects.add(folder)
        deaf_groups = self._groups & self._deaf
        if deaf_groups or now >= self._next_listing:
            full = now >= self._next_listing
            self._next_listing = now + SWEEP_SECONDS if full else self._next_listing
            woken.update(dict.fromkeys(self._list(None if full else deaf_groups), ANYTHING))
        return woken

    def _slice(self) -> Iterator[Path]:
        """The folders whose turn it is, so that all are looked at within their time."""
        for resting, seconds in ((False, SWEEP_SECONDS), (True, REST_SECONDS)):
            all_ = len(self._resting) if resting else len(self._known) - len(self._resting)
            share = min(all_, int(all_ * self.poll / seconds) + 1)
            taken = list(islice(self._rounds[resting], share))
            if len(taken) < share:
                left = self._resting if resting else self._known.keys() - self._resting
                self._rounds[resting] = iter(list(left))
            yield from (folder for folder in taken if folder in self._known)

    def _changed(self, folder: Path) -> bool:
        """Whether the files of a known folder are not as they were; a vanished one is forgotten."""
        self._heard.discard(folder)
        found = places.look(folder)
        hides = folder in self._foreign and not places.is_run(folder)
        if found == self._known[folder] and not hides:
            return False
        if folder in self._foreign:
            self._foreign[folder] = time.time()
        if hides:  # there are runs below it now, which were not looked for
            self._next_listing = 0.0
        if places.gone(folder):
            self._forget(folder)
        else:
            self._known[folder] = found
        return True

    def _add_deaf(self, folders: set[Path]) -> None:
        if not self._told_deaf:
            self._told_deaf = True
            one = min(folders)
            name = one.name if one == self.root else one.relative_to(self.root)
            told = f"{name} changes without a notification (a link to another disk? a network file system?)"
            self._troubles.append(f"{told}; folders like it are looked at every {self.poll:g} s")
        self._deaf |= folders

    # --------------------------------------------------------------------------------------------------- who is there

    def _list(self, groups: set[Path] | None = None) -> list[Path]:
        """Run folders that were not known, in all groups or in some."""
        if groups is None:
            return list(self._new(self.root, DEPTH))
        depths = {group: DEPTH - len(group.relative_to(self.root).parts) for group in groups}
        return list(chain.from_iterable(self._new(group, depth) for group, depth in depths.items()))

    def _new(self, folder: Path, depth: int) -> Iterator[Path]:
        """Takes in what lies at or below a folder; yields the run folders that were not known."""
        if folder in self._known or (folder != self.root and not self._links.takes(folder)):
            return
        if places.is_run(folder):
            self._groups.discard(folder)
            self._listen(folder)
            if places.foreign(folder):
                self.attend(folder)
            self._known[folder] = places.look(folder)
            yield folder
        else:
            self._groups.add(folder)
            self._listen(folder)  # before it is listed: what comes later is announced
            try:
                below = places.inside(folder)
            except OSError as error:
                self._refuse(folder, error)
                return
            self.refused.pop(folder, None)
            self._doubt(folder)
            if not below and folder != self.root and places.may_become_run(folder):
                self._deaf.add(folder)
            for place in below if depth else ():
                yield from self._new(place, depth - 1)
            if places.is_run(folder):  # its first file came between the two looks
                yield from self._new(folder, 0)

    def _doubt(self, folder: Path) -> None:
        """Says of a folder that it might be one of several runs."""
        why = places.undecided(folder)
        if why and self._undecided.get(folder) != why:
            self._doubts.append((folder, why))
        self._undecided[folder] = why
        if not why:
            del self._undecided[folder]

    def _refuse(self, folder: Path, error: OSError) -> None:
        """A folder that cannot be listed is tried again at every poll."""
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            self._groups.discard(folder)
            self._deaf.discard(folder)
            self.refused.pop(folder, None)
        else:
            self.refused[folder] = error.strerror or str(error)
            self._deaf.add(folder)

    def _came(self, place: Path) -> dict[Path, int]:
        """A folder that was announced and is not known as a run: something in it, or it itself, is new or gone."""
        try:
            depth = DEPTH - len(place.relative_to(self.root).parts)
        except ValueError:
            return {}
        if place.parent in self._groups and source.may_be_log(place.name):
            return self._expect(place.parent, depth + 1)
        if depth < 0 or (place.parent in self._known and place != self.root):
            return {}
        if place in self._groups and place != self.root and not os.path.isdir(place):
            gone = [folder for folder in self._known if place in folder.parents]
            for folder in gone:
                self._forget(folder)
            self._groups.discard(place)
            return dict.fromkeys(gone, ANYTHING)
        if not os.path.isdir(place):
            return {}
        if place != self.root and source.inside_a_run(place.name) and (found := list(self._new(place.parent, 0))):
            return dict.fromkeys(found, ANYTHING)  # its first checkpoint, say, makes the folder above a run
        return dict.fromkeys(self._new(place, depth), ANYTHING)

    def _expect(self, folder: Path, depth: int) -> dict[Path, int]:
        """A file has come that may be another program's log, once something stands in it: that is not announced."""
        if folder != self.root:
            self._deaf.add(folder)
        return dict.fromkeys(self._new(folder, depth), ANYTHING)

    def _again(self, folder: Path) -> None:
        """A run folder has come or gone itself: there may be another one of its name."""
        if places.gone(folder):
            self._forget(folder)
        else:
            self._listen(folder)

    def _listen(self, folder: Path) -> None:
        """Has changes in a folder announced, if that can be had."""
        try:
            self._ears.add(folder)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return
            if error.errno != errno.ENOSPC:  # no right to list it, say, though its files can be read
                self._deaf.add(folder)
                return
            if folder not in self._resting and self._make_room():
                self._listen(folder)
                return
            self._deaf.add(folder)
            if not self._full:
                self._full = True
                told = "there are no inotify watches left (sysctl fs.inotify.max_user_watches)"
                self._troubles.append(f"{told}; folders without one are looked at every {self.poll:g} s")

    def _make_room(self) -> bool:
        """Takes its watch from a finished run."""
        return any(self._ears.remove(folder) for folder in self._resting)

    def _forget(self, folder: Path) -> None:
        self._known.pop(folder, None)
        self._ears.remove(folder)
        self._foreign.pop(folder, None)
        for group in (self._resting, self._deaf, self._heard, self._suspects):
            group.discard(folder)
