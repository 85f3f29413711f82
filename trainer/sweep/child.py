"""What a task on another machine does: one child, its output in a file, its exit code for an answer.

The code of this file travels to where it runs, so it needs the standard library and nothing beside it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL = 1
"""`PR_SET_PDEATHSIG` of Linux."""


def carry_out(command: Sequence[str], log: str, folder: str, environment: Mapping[str, str]) -> tuple[int, float, str]:
    """Runs a command to its end.

    An interruption of the task is SIGTERM for the command, which is waited for: it saves itself first.

    Returns:
        Its exit code, the seconds it took, and on which machine.
    """
    began = time.monotonic()
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with Path(log).open("ab") as output:
        output.write(f"on {socket.gethostname()}\n".encode())
        output.flush()
        child = subprocess.Popen(  # noqa: S603 - the command of the sweep
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=_prepared(),  # noqa: PLW1509 - between fork and exec nothing but two system calls
        )
    while True:
        try:
            code = child.wait()
            break
        except KeyboardInterrupt:
            child.terminate()
    return code, time.monotonic() - began, socket.gethostname()


def _prepared() -> Callable[[], None]:
    """What the child does first: it hears SIGINT, which Ray's workers block, and SIGTERM when its worker dies.

    Else the run of a worker that was killed would go on as nobody's.
    """
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if hasattr(libc, "prctl"):
            libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)

    return prepare
