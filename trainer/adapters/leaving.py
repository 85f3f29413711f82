"""Was a training left without a word? Standard library only.

Some frameworks tell their callbacks how a training begins and ends, but not that an exception has left it. A process
that dies of it is noticed from outside. One that has caught it (a notebook, a search) lives on with a heartbeat and
without a step, which is what a hang looks like.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType

Left = Callable[[BaseException | None], None]
"""Takes the exception, where it is known."""

_LOOK_SECONDS = 0.5

_SURE = 3
"""Looks in a row that find nothing: the stack of a thread that runs may change under a look at it."""


class Leaving:
    """Notices the end of the framework's function that trains, and the end of the program.

    A function that is no longer on the stack of its thread has ended. What is on it is looked at from another thread,
    so that the training pays nothing; nothing of the framework's is kept or changed.

    Args:
        left: called once when the training ended unless `close` was called before; in a thread of its own, or in the
            main thread at the end of the program.
        package: of the framework; None: only the end of the program is noticed.
    """

    def __init__(self, left: Left, package: str | None = None) -> None:
        self._left, self._over = left, threading.Event()
        self._pid, self._before = os.getpid(), _last_exception()
        self._thread, self._code = threading.get_ident(), _outermost(package) if package else None
        atexit.register(self._at_exit)
        if self._code is not None:
            threading.Thread(target=self._look, name="leaving", daemon=True).start()

    def close(self) -> None:
        """Ends the watch: the framework has said how the training ended."""
        self._over.set()
        atexit.unregister(self._at_exit)

    def _look(self) -> None:
        missed = 0
        while missed < _SURE:
            if self._over.wait(_LOOK_SECONDS):
                return
            missed = 0 if self._inside() else missed + 1
        self._tell()

    def _inside(self) -> bool:
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented, and there is no other way
        while frame is not None:
            if frame.f_code is self._code:
                return True
            frame = frame.f_back
        return False

    def _at_exit(self) -> None:
        if os.getpid() == self._pid:  # and not a child that was forked off
            self._tell()

    def _tell(self) -> None:
        if not self._over.is_set():
            error = _last_exception()
            self._left(None if error is self._before else error)


def _outermost(package: str) -> CodeType | None:
    """The code of the outermost function of a package that is being called: the one that the program has called."""
    found = None
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - as above
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            found = frame.f_code
        frame = frame.f_back
    return found


def _last_exception() -> BaseException | None:
    """The last one that nobody has caught: it is about to end the program, or was shown by an interactive one."""
    found = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return found if isinstance(found, BaseException) else None
