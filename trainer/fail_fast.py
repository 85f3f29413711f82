"""`--fail-fast`: a checker of this run's own, which asks it to stop as soon as it is doomed.

The checker is another program, and all that is known of it here is how it is started.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from contract import watcher
from trainer.errors import SpecError


def check() -> None:
    """Whether there is a checker to start.

    Raises:
        SpecError: it is not installed.
    """
    if importlib.util.find_spec("checker") is None:
        raise SpecError("--fail-fast: the checker is not installed here: pip install training-checker")


def start(folder: Path) -> str:
    """Starts a checker for the run in `folder`, unless one watches already; returns a sentence about it.

    It ends by itself when this process has ended and everything about the run is told. A signal from the terminal is
    meant for the training, so the checker gets a session of its own.
    """
    for root in (folder, *folder.parents):
        if (holder := watcher(root)) and (holder.looking or root == folder):  # one that hangs still holds its lock
            return f"a checker watches {root} already ({holder})"
    command = [sys.executable, "-m", "checker", "watch", str(folder), "--while-pid", str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - our own words
    return f"a checker watches this run (process {process.pid})"
