"""Is this still the process that the status file names, is it alive, and may it be signalled?

A pid is only a number that someone else may have been given since. So a process counts as the same only on the same
host, in the same boot, with the same start time; and it is signalled through a handle (pidfd) that was opened *before*
that was checked, so it cannot be exchanged in between.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import contract
from checker.events import Life

PROC = Path("/proc")
MAX_PID = (1 << 31) - 1
"""What the kernel's type for process ids can hold."""

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Stat(NamedTuple):
    """What `/proc/PID/stat` says, as far as it matters here."""

    state: str
    parent: int
    cpu: float
    """Seconds of processor time, children that have ended included."""
    started: int
    threads: int

    @property
    def over(self) -> bool:
        """It has ended. A main thread may have, while others are still held in the kernel: that is not the end."""
        return self.state in "Xx" or (self.state == "Z" and self.threads <= 1)


def parse(document: Mapping[str, Any]) -> contract.Process | None:
    """The process that a status document names, or None when it names none that makes sense."""
    found = document.get("process")
    if not isinstance(found, Mapping):
        return None
    pid, host = found.get("pid"), found.get("host")
    boot, started = found.get("boot_id"), found.get("started")
    if type(pid) is not int or not isinstance(host, str):
        return None
    return contract.Process(
        pid=pid,
        host=host,
        boot_id=boot if isinstance(boot, str) else None,
        started=started if type(started) is int else None,
    )


def look(process: contract.Process | None, proc: Path = PROC) -> Life:
    """What is known about `process`. Unknown is not dead."""
    if process is None or _unknowable(process):
        return Life.UNKNOWN
    found = stat_of(process.pid, proc)
    if found is None:
        return Life.UNKNOWN if _hidden(process.pid, proc) else Life.GONE
    if found.started != process.started or found.over:
        return Life.GONE
    return Life.STOPPED if found.state in "Tt" else Life.ALIVE


def same(process: contract.Process, proc: Path = PROC) -> bool:
    """Whether `process` is proven to be there still."""
    found = None if _unknowable(process) else stat_of(process.pid, proc)
    return found is not None and found.started == process.started and not found.over


def zombie(process: contract.Process | None, proc: Path = PROC) -> bool:
    """Whether `process` has ended and whoever started it has not taken note: its exit code is still to be had."""
    found = None if process is None or _unknowable(process) else stat_of(process.pid, proc)
    return found is not None and process is not None and found.started == process.started and found.state == "Z"


def slept(process: contract.Process | None, proc: Path = PROC) -> int | None:
    """How often the main thread had gone to sleep when it went into the uninterruptible sleep that it is in now.

    None while it is in no such sleep. Every disk access is one; only the same number at two looks is one long sleep.
    """
    found = None if process is None or _unknowable(process) else stat_of(process.pid, proc)
    if found is None or process is None or found.started != process.started or found.state != "D":
        return None
    try:
        text = (proc / str(process.pid) / "status").read_text()
    except OSError:
        return None
    count = text.partition("voluntary_ctxt_switches:")[2].split(maxsplit=1)
    return int(count[0]) if count and count[0].isdecimal() else 0


def held(process: contract.Process | None) -> str | None:
    """Why a process that was killed is still there, if that shows."""
    found = None if process is None or _unknowable(process) else stat_of(process.pid, PROC)
    if found is None or process is None or found.started != process.started:
        return None
    if found.state == "D":
        return f"its main thread is {UNINTERRUPTIBLE}"
    return "its main thread has ended, others are held in the kernel" if found.state == "Z" and not found.over else None


UNINTERRUPTIBLE = (
    "in uninterruptible sleep: it waits for a disk, a network file system or a driver, and a signal may reach it only "
    "when that returns"
)


def cpu_seconds(process: contract.Process | None, proc: Path = PROC) -> float | None:
    """Processor time that `process` has used; None when it cannot be told."""
    if process is None or _unknowable(process):
        return None
    found = stat_of(process.pid, proc)
    return found.cpu if found is not None and found.started == process.started else None


def age(process: contract.Process | None, proc: Path = PROC) -> float | None:
    """Seconds since `process` began, by the clock of the kernel, which nobody can set; None when it cannot be told."""
    if process is None or process.started is None or _unknowable(process) or not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    found = stat_of(process.pid, proc)
    if found is None or found.started != process.started:
        return None
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / _TICKS)


def signal_if_same(process: contract.Process | None, signum: int) -> str | None:
    """Sends `signum` if, and only if, `process` is still the one that was named.

    Returns:
        None when the signal was sent, else a sentence saying why it was not.
    """
    if process is None:
        return "the status file names no process"
    reason = _unknowable(process) or _protected(process.pid)
    if reason:
        return reason
    handle = -1
    try:
        if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
            handle = _open(process.pid)
        reason = _not_the_same(process)
        if reason:
            return reason
        if handle >= 0:
            signal.pidfd_send_signal(handle, signum)
        else:
            os.kill(process.pid, signum)
    except ProcessLookupError:
        return f"process {process.pid} is gone"
    except (OSError, ValueError) as error:
        return f"process {process.pid} cannot be signalled: {error}"
    finally:
        if handle >= 0:
            os.close(handle)
    return None


def starved() -> bool:
    """Whether no file can be opened just now, so that what could not be read says nothing about any process."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    return False


def _open(pid: int) -> int:
    """A handle on whoever has `pid` now; -1 where the kernel has no such handles."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return -1


def _not_the_same(process: contract.Process) -> str | None:
    found = stat_of(process.pid, PROC)
    if found is None or found.over:
        return f"process {process.pid} is gone"
    if found.started != process.started:
        return f"pid {process.pid} belongs to another process now (start time differs)"
    owner = os.stat(PROC / str(process.pid)).st_uid
    if owner != os.geteuid():
        return f"process {process.pid} belongs to user {owner}, the checker runs as user {os.geteuid()}"
    return None


def _unknowable(process: contract.Process) -> str | None:
    """Why nothing certain can be said about `process` from here; None when something can."""
    if type(process.pid) is not int or not 1 < process.pid <= MAX_PID:
        return f"pid {process.pid!r} in the status file is not a process that could be training"
    if process.host != socket.gethostname():
        return f"the run is on host {process.host!r}, the checker on {socket.gethostname()!r}"
    if process.boot_id is None or process.boot_id != contract.boot_id():
        return "the run was started in another boot of this machine, or its status file does not say in which"
    if process.started is None:
        return "the status file does not say when the process started, so its pid proves nothing"
    return None


def _protected(pid: int) -> str | None:
    """The checker and whatever started it are never signalled, whatever a status file says."""
    above = os.getpid()
    while above > 1:
        if above == pid:
            return f"process {pid} is the checker itself or one that started it"
        found = stat_of(above, PROC)
        above = found.parent if found is not None else 0
    return None


def stranger(folder: Path) -> str | None:
    """Why what a run folder says about processes of the checker's user counts for nothing; None when it does count.

    Whoever can write a folder can name any process there. So the log must have been written by the user whose processes
    alone are signalled; where there is no log yet, that user must own the folder. Root may write for others, and where
    a file system does not tell who wrote a file (squashed or mapped to nobody), nothing speaks against it.
    """
    for place in (folder / contract.METRICS, folder):
        try:
            owner = os.lstat(place).st_uid
        except OSError:
            continue
        if owner in (os.geteuid(), 0, _NOBODY):
            return None
        return f"{place.name} belongs to user {owner}, who cannot name processes of user {os.geteuid()}"
    return None


_NOBODY = 65534
"""Who owns what has no owner that this system knows."""


def stat_of(pid: int, proc: Path) -> Stat | None:
    """What the process table says about `pid`; None when it says nothing."""
    try:
        text = (proc / str(pid) / "stat").read_bytes().decode("ascii", "replace")
        fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything, brackets included
        return Stat(fields[0], int(fields[1]), sum(map(int, fields[11:15])) / _TICKS, int(fields[19]), int(fields[17]))
    except (OSError, ValueError, IndexError):
        return None


def _hidden(pid: int, proc: Path) -> bool:
    """Whether the process exists although its entry cannot be read (`hidepid`), or there is no process table at all."""
    if not (proc / "self").exists() and proc == PROC:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return proc == PROC and stat_of(pid, proc) is None
