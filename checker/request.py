"""A person's request to stop a run: written into its status file, where its trainer and a watching checker find it."""

from __future__ import annotations

import uuid
from pathlib import Path

import contract
from checker.clean import clean
from checker.enforce import PERSON, Later, ask
from checker.terms import Complaint


def ask_to_stop(folder: Path, reason: str) -> list[str]:
    """Asks the run in `folder` to stop; returns what to tell whoever wanted it.

    Raises:
        Complaint: nobody would read the request, or it cannot be written.
    """
    status = contract.StatusFile(folder)
    try:
        document = status.read()
    except (contract.Unreadable, OSError) as error:
        raise Complaint(f"{error}; nothing was asked") from None
    if document is None:
        raise Complaint(f"{folder}: no {contract.STATUS}, so no trainer looks for a request")
    state = contract.run_state(document)
    if state is not contract.State.RUNNING:
        raise Complaint(f"{folder}: the run is {state}; there is nothing to stop")
    earlier = contract.pending_kill(document)
    run_id = document.get("run_id")
    kill = contract.Kill(
        id=f"person-{uuid.uuid4().hex[:8]}",
        reason=reason,
        requested_by=PERSON,
        requested_at=contract.now(),
        run_id=run_id if isinstance(run_id, str) else None,
    )
    try:
        trouble = ask(status, kill)
    except Later as later:
        trouble = str(later)
    if trouble:
        raise Complaint(f"{folder}: {trouble}")
    if earlier is not None:
        return [f"{clean(earlier.requested_by)} had asked already: {clean(earlier.reason)}"]
    return [
        f"asked {clean(folder.name)} to stop; it saves a checkpoint first. The answer appears under `ack` in",
        f"{clean(status.path)}. A watching checker (`checker watch`) forces it when no answer comes.",
    ]
