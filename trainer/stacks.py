"""A signal that makes every thread write down where it stands, so a hang can be explained. Standard library only."""

from __future__ import annotations

import faulthandler
import signal
import threading
from pathlib import Path
from typing import BinaryIO

from contract import STACKS


class Stacks:
    """Registers the dump into `stacks.txt`, or the file `name`, for as long as the run lasts.

    The dump is made by a C-level handler, so it works while Python itself is stuck in a call that never returns.
    """

    def __init__(self, folder: Path, name: str = STACKS) -> None:
        self.signum = _free_signal()
        self._file: BinaryIO | None = None
        if self.signum is not None:
            self._file = (folder / name).open("ab")
            faulthandler.register(self.signum, file=self._file, all_threads=True)

    def close(self) -> None:
        if self.signum is not None and self._file is not None:
            faulthandler.unregister(self.signum)
            self._file.close()
            self._file = None


def _free_signal() -> int | None:
    """A user signal that nobody else in this process handles; None off POSIX and outside the main thread."""
    if not hasattr(faulthandler, "register") or threading.current_thread() is not threading.main_thread():
        return None
    for signum in (signal.SIGUSR2, signal.SIGUSR1):
        if signal.getsignal(signum) is signal.SIG_DFL:
            return int(signum)
    return None
