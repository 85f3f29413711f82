"""`trainer abort`: closes an experiment whose status says running although nobody runs it any more."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from contract import SPEC, STATUS, IllegalTransition, State, StatusFile, Unreadable, run_state
from trainer import known
from trainer.errors import SpecError

_GONE = "its process is gone"


def abort(folder: Path, reason: str, *, force: bool = False) -> None:
    """Sets the state to aborted and leaves everything else in the status file as it is.

    Args:
        folder: the experiment's.
        reason: why, in a sentence; empty: because its process is gone.
        force: also when the process runs on another machine, or cannot be told from here.

    Raises:
        SpecError: it is not running, its process lives, or nobody can tell from here; nothing was changed.
    """
    known.read_record(folder)

    def close(document: dict[str, Any]) -> dict[str, Any]:
        state = run_state(document) if document else State.PENDING
        try:
            after = state.to(State.ABORTED)
        except IllegalTransition as error:
            raise SpecError(f"{folder}: {error}") from None
        _must_be_gone(folder, document.get("process"), force=force)
        why = reason or _GONE
        notes = document.get("notes")
        return {
            **document,
            "state": str(after),
            "is_training": False,
            "error": document.get("error") or why,
            "notes": [*(notes if isinstance(notes, list) else []), f"aborted: {why}"],
        }

    status = StatusFile(folder)
    try:
        status.read()  # what cannot be read is not set aside for this
        status.edit(close)
    except (Unreadable, OSError) as error:
        raise SpecError(f"{folder / STATUS}: {error}") from None
    finally:
        status.close()
    with suppress(OSError):
        (folder / SPEC).unlink(missing_ok=True)


def _must_be_gone(folder: Path, process: object, *, force: bool) -> None:
    pid = known.living(process)
    if pid:
        raise SpecError(f"{folder}: process {pid} lives and trains it; ask it to stop first: checker kill {folder}")
    if not force and not known.gone(process):
        if not isinstance(process, dict) or not isinstance(process.get("pid"), int):
            why = "its status names no process, so nobody here can tell whether it still runs"
            raise SpecError(f"{folder}: {why}; if you are sure that it is gone, use --force")
        where = f"process {process['pid']} on host {process.get('host')!r}"
        raise SpecError(f"{folder}: is run by {where}, of which nothing can be told from here; if it is gone: --force")
