"""A run as MLflow shows it: a run in the database `mlflow.db` beside the experiments' folders.

An MLflow experiment is the folder of all experiments here, and one of its runs is one experiment here. There are no
artifacts: checkpoints stay where they are. MLflow keeps NaN, and infinities as the largest number that there is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it reports home otherwise; read when it is loaded
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # the terminal is the run's

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException

from contract import State
from trainer.mirrors.mirror import About, End, Told, flat, known_as, remember, sentence

DATABASE = "mlflow.db"

_DESCRIPTION = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run, as Markdown."""

_METRICS, _PARAMS = 1000, 100
"""As many as MLflow takes at once."""

_NAME = 250
"""Characters in the name of a metric or a parameter at most."""

_STATUS = {State.COMPLETED: RunStatus.FINISHED, State.KILLED: RunStatus.KILLED}

Item = TypeVar("Item")


def opened(about: About) -> _Mlflow:
    """Begins a run in the database, or goes on with that of an earlier attempt where it is still there."""
    return _Mlflow(about)


class _Mlflow:
    def __init__(self, about: About) -> None:
        root = about.folder.resolve().parent
        address = f"sqlite:///{root / DATABASE}"
        self._client = MlflowClient(tracking_uri=address, registry_uri=address)
        self._metric = about.metric
        self._step = 0
        run = _earlier(self._client, about.folder) or _begun(self._client, root, about)
        self._run: str = run.info.run_id
        self._description: str = run.data.tags.get(_DESCRIPTION, "")

    def take(self, rows: Sequence[Told]) -> None:
        metrics: list[Metric] = []
        for row in rows:
            self._step = self._step if row.step is None else row.step
            at = int(row.at * 1000)
            metrics += [Metric(_named(name), value, at, self._step) for name, value in row.numbers.items()]
        for some in _slices(metrics, _METRICS):
            self._client.log_batch(self._run, metrics=some)
        self._describe([sentence(row) for row in rows if row.text])

    def close(self, end: End) -> None:
        if end.best is not None:
            self._client.log_metric(self._run, _named(f"best_{self._metric}"), end.best, step=self._step)
        self._client.set_tag(self._run, "state", end.state)
        self._describe([end.error] if end.error else [])
        status = _STATUS.get(State(end.state), RunStatus.FAILED)
        self._client.set_terminated(self._run, RunStatus.to_string(status))

    def _describe(self, remarks: Sequence[str]) -> None:
        """Adds to the description, as a list; what is too long MLflow cuts off."""
        if remarks:
            self._description = "\n".join([self._description, *(f"- {' '.join(text.split())}" for text in remarks)])
            self._client.set_tag(self._run, _DESCRIPTION, self._description)


def _earlier(client: MlflowClient, folder: Path) -> Run | None:
    """The run of an earlier attempt, set to running again; None where there is none any more."""
    name = known_as(folder, "mlflow")
    if name is None:
        return None
    try:
        client.update_run(name, status=RunStatus.to_string(RunStatus.RUNNING))
        return client.get_run(name)
    except MlflowException:  # the database was deleted, or the run in it
        return None


def _begun(client: MlflowClient, root: Path, about: About) -> Run:
    """A new run with its parameters; its name is kept for the next attempt."""
    experiment = about.experiment
    tags = {"experiment_id": experiment.id, "parent": experiment.parent or "", "tags": ", ".join(experiment.tags)}
    described = {_DESCRIPTION: f"{experiment.hypothesis}\n"} if experiment.hypothesis else {}
    run = client.create_run(_place(client, root), run_name=experiment.id, tags={**tags, **described})
    params = [Param(_named(name), str(value)) for name, value in flat(experiment.config)]
    for some in _slices(params, _PARAMS):
        client.log_batch(run.info.run_id, params=some)
    if experiment.name:
        client.log_batch(run.info.run_id, tags=[RunTag("name", experiment.name)])
    remember(about.folder, "mlflow", run.info.run_id)
    return run


def _place(client: MlflowClient, root: Path) -> Any:
    """The id of the MLflow experiment for a folder of experiments; made where it is missing."""
    name = root.name or "experiments"
    found = client.get_experiment_by_name(name)
    if found is None:
        try:  # the place for artifacts must be named, and is never made
            return client.create_experiment(name, artifact_location=(root / "mlflow-artifacts").as_uri())
        except MlflowException:  # a run beside this one was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def _named(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name, flags=re.ASCII)[:_NAME]


def _slices(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    for begin in range(0, len(items), most):
        yield items[begin : begin + most]
