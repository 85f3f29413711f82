"""Asking a run to stop through its status file: on whatever machine it runs, and however often it is asked."""

from __future__ import annotations

import uuid

from contract import Kill, StatusBusy, StatusFile, now, request_kill
from trainer.sweep.job import Job

ASKER = "trainer sweep"
"""Who asks: nobody has anything against the run, and it may be gone on with."""


def ask(job: Job, reason: str) -> bool:
    """Asks the run of a job to stop; False while nobody is there yet to be asked, be it that a run is only going on."""
    folder, document = job.folder(), job.status()
    if folder is None or document is None:
        return False
    run_id = document.get("run_id")
    kill = Kill(
        id=f"sweep-{uuid.uuid4().hex[:8]}",
        reason=reason,
        requested_by=ASKER,
        requested_at=now(),
        run_id=run_id if isinstance(run_id, str) else None,
    )
    status = StatusFile(folder)
    try:
        return request_kill(status, kill)
    except (StatusBusy, FileNotFoundError):
        return False
    finally:
        status.close()
