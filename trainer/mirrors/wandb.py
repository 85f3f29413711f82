"""A run as Weights & Biases shows it, strictly offline: files under `mirrors/wandb` of the run folder.

Nothing leaves the machine and nobody is asked to log in; `wandb sync` uploads the files, whenever a person wants it.
An attempt that goes on writes files of its own under the same run id, so that W&B can join them.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it reports home otherwise; read when it is loaded

import wandb

from contract import State
from trainer.mirrors.mirror import FOLDER, About, End, Told, known_as, remember, sentence

_QUIET = {
    "mode": "offline",
    "silent": True,
    "console": "off",  # what the run prints is not W&B's
    "reinit": "create_new",  # a run that the user's own code may have begun is none of our matter
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""Only what we hand over, and not a word on the terminal."""

_unanswered: set[str] = set()
"""Ids of the runs that W&B has begun and not closed."""


def opened(about: About) -> _Wandb:
    """Begins an offline run, under the id of an earlier attempt where there was one."""
    return _Wandb(about)


class _Wandb:
    def __init__(self, about: About) -> None:
        folder = about.folder / FOLDER / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        name = known_as(about.folder, "wandb")
        if name is None:
            name = uuid.uuid4().hex[:8]
            remember(about.folder, "wandb", name)
        experiment = about.experiment
        self._metric = about.metric
        self._step = 0
        self._notes = experiment.hypothesis
        self._id = name
        _unanswered.add(name)
        with _own_exit():
            self._run: Any = wandb.init(
                project=_project(about.folder.resolve().parent.name),
                id=name,
                name=experiment.id,
                notes=self._notes,
                tags=[tag[:64] for tag in experiment.tags if tag] or None,  # W&B takes no longer ones
                config=dict(experiment.config),
                dir=str(folder),
                settings=wandb.Settings(**_QUIET),
            )

    def take(self, rows: Sequence[Told]) -> None:
        for row in rows:
            self._step = self._step if row.step is None else row.step
            if row.numbers:
                self._run.log(dict(row.numbers), step=self._step)
        self._describe([sentence(row) for row in rows if row.text])

    def close(self, end: End) -> None:
        self._describe([end.error] if end.error else [])
        self._run.summary["state"] = end.state
        if end.best is not None:
            self._run.summary[f"best_{self._metric}"] = end.best
        self._run.finish(exit_code=0 if end.state == State.COMPLETED else 1)
        _unanswered.discard(self._id)

    def _describe(self, remarks: Sequence[str]) -> None:
        """Adds to the notes of the run, which W&B shows as Markdown."""
        if remarks:
            self._notes = "\n".join([self._notes, *(f"- {' '.join(text.split())}" for text in remarks)])
            self._run.notes = self._notes


def _project(name: str) -> str:
    """The folder of all experiments as the name of a project; W&B takes neither some characters nor long ones."""
    return re.sub(r"[/\\#?%:]", "_", name)[:128] or "experiments"


@contextmanager
def _own_exit() -> Iterator[None]:
    """Gives back what W&B replaces to learn how the program ends: the program is the run's, and we say how it ended."""
    ours = sys.exit, sys.excepthook
    try:
        yield
    finally:
        sys.exit, sys.excepthook = ours


class _AtExit:
    """Stands in for `atexit` where W&B asks to take leave of its service process when the program ends.

    It would wait for ever for one that does not answer, and the program would never end. So it takes leave only when
    the service has answered to the last; otherwise the service notices by itself that the program is gone.
    """

    def __init__(self) -> None:
        self._acts: dict[Callable[[], object], Callable[[], object]] = {}

    def register(self, act: Callable[[], object]) -> Callable[[], object]:
        def leave() -> None:
            if not _unanswered:
                act()

        self._acts[act] = leave
        atexit.register(leave)
        return act

    def unregister(self, act: Callable[[], object]) -> None:
        atexit.unregister(self._acts.pop(act, act))


with suppress(ImportError):  # in another version it may lie elsewhere: then only such an end would wait
    from wandb.sdk.lib.service import service_connection

    service_connection.atexit = _AtExit()
