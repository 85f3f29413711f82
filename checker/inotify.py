"""Linux's file notifications, one folder at a time.

watchdog, which serves other systems, watches whole trees and passes each event through two threads and three queues:
54 and 60 µs of processor time an event, against 8 and 11 here (1,000 folders, 5,000 rows a second, two rounds in turn
on two busy cores). It would also watch every checkpoint folder, and watches are a limited good.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from contextlib import suppress
from pathlib import Path

from checker.places import FOLDER, TOUCHED

_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLY_FOLDERS, _NOT_UNLINKED, _IS_FOLDER = 0x1000000, 0x4000000, 0x40000000
_NAMES = _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_ITSELF = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
_HEAD = struct.Struct("iIII")
_ASKED = _MODIFY | _NAMES | _DELETE_SELF | _MOVE_SELF | _ONLY_FOLDERS | _NOT_UNLINKED

_BUFFER = 1 << 18
"""Bytes per read: some 6,000 events."""

_FILES = {os.fsencode(name): touched for name, touched in TOUCHED.items()}


class Overflow(Exception):
    """The kernel dropped notifications: anything may have changed."""


class Inotify:
    """Watches for changes directly in the folders that were added.

    Raises:
        OSError: there is no inotify here, or this user has too many instances of it.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._add, self._remove = libc.inotify_add_watch, libc.inotify_rm_watch
            self._fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            raise OSError(errno.ENOSYS, "this system has no inotify") from None
        if self._fd < 0:
            raise _last_error()
        self._folders: dict[int, Path] = {}
        self._watches: dict[Path, int] = {}
        self._heard, self._bell = os.pipe()
        for fd in (self._heard, self._bell):
            os.set_blocking(fd, False)
        self._poll = select.poll()
        for fd in (self._fd, self._heard):
            self._poll.register(fd, select.POLLIN)

    def add(self, folder: Path) -> None:
        """Begins to watch a folder; nothing happens when it is watched already.

        Raises:
            OSError: the folder is gone or no folder, or there are no watches left (ENOSPC).
        """
        watch: int = self._add(self._fd, os.fsencode(folder), _ASKED)
        if watch < 0:
            raise _last_error()
        before = self._watches.get(folder)
        if before is not None and before != watch:  # another folder has the name now
            self._end(before, folder)
        self._folders[watch], self._watches[folder] = folder, watch

    def remove(self, folder: Path) -> bool:
        """Ends the watch of a folder; False when it had none."""
        watch = self._watches.get(folder)
        if watch is None:
            return False
        self._end(watch, folder)
        return True

    def ring(self) -> None:
        """Ends the present wait, or the next; safe in a signal handler and from any thread."""
        with suppress(OSError):  # full: it has been rung often enough
            os.write(self._bell, b"!")

    def wait(self, seconds: float) -> dict[Path, int]:
        """What has been touched in which folder since the last call; waits until there is something to tell.

        A folder inside one that is watched is touched (`FOLDER`) when it has come or gone.

        Raises:
            Overflow: notifications were lost.
        """
        self._poll.poll(max(0.0, seconds) * 1000)
        with suppress(OSError):
            while os.read(self._heard, 4096):
                pass
        return self._read()

    def _read(self) -> dict[Path, int]:
        touched: dict[Path, int] = {}
        lost = False
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                break
            at, end = 0, len(data)
            while at < end:
                watch, mask, _, size = _HEAD.unpack_from(data, at)
                name = data[at + 16 : at + 16 + size].rstrip(b"\0")
                at += 16 + size
                what = _FILES.get(name)
                if what is None or mask & (_IS_FOLDER | _ITSELF | _OVERFLOW):
                    lost = lost or bool(mask & _OVERFLOW)
                    self._odd(watch, mask, name, touched)
                    continue
                folder = self._folders.get(watch)
                if folder is not None:
                    touched[folder] = touched.get(folder, 0) | what
            if end < _BUFFER // 2:
                break
        if lost:
            raise Overflow
        return touched

    def _odd(self, watch: int, mask: int, name: bytes, touched: dict[Path, int]) -> None:
        """A change of a folder instead of a file in it."""
        folder = self._folders.get(watch)
        if folder is None:
            return
        if mask & _ITSELF:
            if mask & (_IGNORED | _MOVE_SELF):  # the kernel has ended the watch, or it follows a folder of another name
                self._end(watch, folder)
            touched[folder] = touched.get(folder, 0) | FOLDER
        elif mask & _NAMES and not name.startswith(b"."):  # perhaps a link to a folder, so whatever it is
            touched[folder / os.fsdecode(name)] = FOLDER

    def _end(self, watch: int, folder: Path) -> None:
        """Forgets a watch; the folder may have another one by now, made when it was made anew."""
        if self._folders.pop(watch, None) is not None:
            self._remove(self._fd, watch)
        if self._watches.get(folder) == watch:
            del self._watches[folder]

    def close(self) -> None:
        if self._fd >= 0:
            for fd in (self._fd, self._heard, self._bell):
                os.close(fd)
            self._fd = -1


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
