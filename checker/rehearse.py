"""The whole route of a kill, walked once at start-up without harm: what could not work then is said now.

What it does happens in a hidden folder of its own, which is gone afterwards, and by signal 0, which only asks. It takes
some tenths of a second, however many runs there are.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import contract
from checker import enforce, judge, process
from checker.events import Life, Plan, Row
from checker.finding import Severity
from checker.journal import Journal
from checker.places import folders
from checker.status import Status
from checker.terms import Mode, Notice

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

HIDDEN = ".checker-rehearsal-"
"""How the folder begins in which it is rehearsed: no run is looked for in a hidden one."""

SECONDS = 0.1
"""For looking at the runs; of ten thousand the first few thousand are told of, and how many are not."""

_NAMED = 3
"""Runs that are named for one reason; the others are counted."""


def rehearse(root: Path, mode: Mode = Mode.ACT) -> list[Notice]:
    """What will not work when a run below `root` has to be stopped or reported, why, and what to do about it.

    Args:
        root: the folder that is watched, or that is to be.
        mode: who only observes is not told what stops him from stopping runs.

    Returns:
        A notice for each thing that cannot work, the gravest first; none where all is well. Its `rule` is "rehearsal";
        its `run` is a run's name where it is about one run, and "checker" otherwise.
    """
    found = [*_files(root), *(_signals() if mode is Mode.ACT else ())]
    if mode is Mode.ACT:
        found += _runs(root, time.monotonic() + SECONDS)
    return sorted(found, key=lambda notice: -notice.severity.rank)


def _notice(text: str, severity: Severity = Severity.WARNING, run: str = "checker") -> Notice:
    return Notice(run, text, severity, "rehearsal")


# ---------------------------------------------------------------------------------------------- files and reports


def _files(root: Path) -> Iterator[Notice]:
    """Writes what would be written, into a folder of its own."""
    try:
        with tempfile.TemporaryDirectory(prefix=HIDDEN, dir=root) as place:
            yield from _written(Path(place))
    except OSError as error:
        told = f"{root} cannot be written ({error.strerror or error}): no finding can be journaled, so nothing is "
        yield _notice(f"{told}stopped; give the checker's user the right to write there", Severity.CRITICAL)


def _written(place: Path) -> Iterator[Notice]:
    if fcntl is not None:
        with (place / "lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                yield _notice(
                    f"this file system has no locks ({error.strerror}): two checkers on it would not notice each other "
                    "and would ask and report everything twice; start only one"
                )
    folder = place / "exp"
    folder.mkdir()
    yield from _asked(folder)
    yield from _exchanged(folder)
    yield from _reported(folder)


def _asked(folder: Path) -> Iterator[Notice]:
    """A finding is journaled, and a request is put into a status file and found there."""
    status = contract.StatusFile(folder)
    contract.replace(status.path, contract.encode({"state": contract.State.RUNNING, "run_id": "r"}))
    kill = contract.Kill(id="rehearsal", reason="rehearsal", run_id="r")
    try:
        Journal(folder).write("trouble", {"text": "rehearsal"}, sync=True)
        trouble = enforce.ask(status, kill) or (
            None if contract.pending_kill(status.read() or {}) == kill else "the request is not found where it was put"
        )
    except (OSError, enforce.Later, contract.Unreadable) as error:
        trouble = str(error)
    finally:
        status.close()
    if trouble:
        yield _notice(f"a run could not be asked to stop: {trouble}", Severity.CRITICAL)


def _exchanged(folder: Path) -> Iterator[Notice]:
    one, other = folder / "one", folder / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    if not contract.exchange(one, other):
        yield _notice(
            "two files cannot be exchanged in one instant here: what somebody saves in the same millisecond as the "
            "checker may be lost; do not edit a status file of a run that is being stopped",
            Severity.INFO,
        )


def _reported(folder: Path) -> Iterator[Notice]:
    """Every page is rendered once, about a run of three rows that ends in NaN."""
    from jinja2 import TemplateError  # noqa: PLC0415 - slow to load, and needed only here

    from checker.report import checklist, pages  # noqa: PLC0415 - as above

    case = judge.Case.open(Plan(contract.Experiment(id="exp", created_at="")))
    for index, loss in enumerate((2.0, 1.9, float("nan"))):
        judge.step(case, Row(index, index + 1, {"train_loss": loss}, step=index))
    try:
        pages.write(folder, case, status=None, experiment=None, acts=[], unreadable=[])
        checklist.write(folder.parent)
    except (TemplateError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        told = f"reports cannot be written ({type(error).__name__}: {error})"
        yield _notice(f"{told}: runs are judged and stopped without one; install the checker again", Severity.CRITICAL)


# --------------------------------------------------------------------------------------------- processes and runs


def _signals() -> Iterator[Notice]:
    """Whether this system lets anybody know a process again and signal it."""
    me = contract.this_process()
    if None in (me.boot_id, me.started):
        yield _notice(
            "there is no readable /proc with boot id and start times, so no process can be told from another: runs are "
            "asked to stop through their status file only"
        )
        return
    try:
        os.kill(me.pid, 0)
        if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
            handle = os.pidfd_open(me.pid)
            try:
                signal.pidfd_send_signal(handle, 0)
            finally:
                os.close(handle)
    except OSError as error:
        told = f"signals cannot be sent here ({error.strerror}): a run that does not answer cannot be forced"
        yield _notice(f"{told}; look at the seccomp profile of the container")
    if process.stat_of(1, process.PROC) is None:
        yield _notice(
            "/proc shows only processes of the checker's own user (hidepid, or a container): a run of another user "
            "counts as unknown, never as gone",
            Severity.INFO,
        )


def _runs(root: Path, deadline: float) -> Iterator[Notice]:
    """For the runs that are in progress: may they be asked, and are their processes ours to signal?"""
    by_reason: dict[str, list[str]] = defaultdict(list)
    left = 0
    for folder in folders(root):
        if time.monotonic() > deadline:
            left += 1
            continue
        name = folder.name if folder == root else str(folder.relative_to(root))
        for reason in _of_run(folder):
            by_reason[reason].append(name)
    for reason, names in by_reason.items():
        if len(names) == 1:
            yield _notice(reason, run=names[0])
        else:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield _notice(f"{len(names)} runs ({', '.join(names[:_NAMED])}{more}): {reason}")
    if left:
        yield _notice(f"{left} more run folders were not rehearsed; each is looked at when it matters", Severity.INFO)


def _of_run(folder: Path) -> Iterator[str]:
    """Why a run in progress could not be stopped; nothing for one that could, or that is over."""
    status = Status(folder)
    status.refresh()
    if status.problem:
        yield f"{status.problem}: it cannot be asked to stop"
        return
    named = process.parse(status.document)
    if status.state is not contract.State.RUNNING or process.look(named) is Life.GONE:
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield "its folder cannot be written: it can neither be asked to stop nor reported on"
        return
    trouble = process.stranger(folder) or process.signal_if_same(named, 0)
    if trouble:
        yield f"it can only be asked, not forced: {_without_pid(trouble, named)}"


def _without_pid(text: str, named: contract.Process | None) -> str:
    """A reason as it holds for others too, so that a hundred runs on another host are one line."""
    return text if named is None else text.replace(f"process {named.pid}", "its process")
