"""A sweep as tasks of Ray, one per spec, each with its resources; Ray decides when and where they run.

A task starts the same child as a sweep on this machine does. Ctrl-C goes to the runs through their status files, which
reach every machine that shares the folder; a task is never tried again, for a run that was stopped is to stay so.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import SWEEP
from trainer import spec
from trainer.errors import SpecError
from trainer.sweep.asking import ask
from trainer.sweep.begun import step
from trainer.sweep.child import carry_out
from trainer.sweep.job import Job
from trainer.sweep.local import ended, prepared
from trainer.sweep.plan import Plan
from trainer.sweep.stopping import called_off, listening, reason

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Cluster:
    """Where it runs, and what each run is given."""

    address: str | None = None
    """None: the one that the environment names, or one of its own on this machine."""
    gpus: float | None = None
    """None: one for a spec that wants a GPU, as far as the cluster has any."""
    cpus: float = 1.0


@dataclass
class _Tasks:
    """What Ray has been given and has not answered yet."""

    ray: Any
    jobs: dict[Any, Job] = field(default_factory=dict)
    """By the reference that stands for the answer."""
    asked: dict[Job, None] = field(default_factory=dict)
    """Those that are to be asked to stop as soon as they can be."""


def sweep(plan: Plan, cluster: Cluster) -> int:
    """Trains every spec of a plan. Returns 0 when every run finished or was stopped on request.

    Raises:
        SpecError: there is nothing to train, no Ray, or no such cluster.
    """
    if importlib.util.find_spec("ray") is None:
        raise SpecError(
            "--ray needs Ray, which is not installed: pip install 'training-checker[ray]' "
            "(in a checkout: pip install '.[ray]')"
        )
    everything = prepared(plan)
    wanted = {path: spec.load(path, settings=plan.settings).device for path in plan.specs()}
    with _joined(cluster) as ray, listening() as received:
        tasks, waiting, heard = _Tasks(ray), list(everything), 0
        while tasks.jobs or (waiting and not received):
            called_off(plan, waiting)
            while waiting and len(tasks.jobs) < (plan.jobs or len(everything)) and not received:
                job = waiting.pop(0)
                _submit(job, plan, tasks, cluster, wanted[job.spec])
            _settle(tasks)
            if len(received) > heard:
                _interrupt(tasks, again=bool(heard))
                heard = len(received)
            for job in [job for job in tasks.asked if job not in tasks.jobs.values() or ask(job, reason(received))]:
                del tasks.asked[job]
    return ended(plan, everything, received, "--ray", *(["--address", cluster.address] if cluster.address else []))


@contextmanager
def _joined(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected to a cluster; what was started for this sweep ends with it.

    Raises:
        SpecError: there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a training says nothing to anybody unless it is told to
    import ray  # noqa: PLC0415 - an extra, and seconds that nobody else need wait

    if ray.is_initialized():
        yield ray
        return
    own = cluster.address is None and not os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"include_dashboard": False} if own else {"address": cluster.address}
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        named = cluster.address or os.environ.get("RAY_ADDRESS") or "its own"
        raise SpecError(f"--address {named}: no Ray cluster can be reached ({' '.join(str(error).split())})") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _submit(job: Job, plan: Plan, tasks: _Tasks, cluster: Cluster, device: str) -> None:
    todo = step(plan, job)
    if todo.command is None:
        job.say(todo.text)
        job.code = todo.code
        return
    ray = tasks.ray
    gpus = cluster.gpus
    if gpus is None:
        gpus = 1.0 if device.startswith("cuda") or (device == "auto" and ray.cluster_resources().get("GPU")) else 0.0
    _say_if_too_large(job, ray, cluster.cpus, gpus)
    environment = {"OMP_NUM_THREADS": str(max(1, int(cluster.cpus))), "PYTHONUTF8": "1", SWEEP: plan.id}
    environment |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    # By value: a worker need not find this program before it has gone to where it lies.
    task = ray.remote(_by_value(ray)).options(
        num_cpus=cluster.cpus, num_gpus=gpus, max_retries=0, name=f"trainer sweep {job.spec.stem}"
    )
    job.started, job.written = True, job.log.stat().st_size if job.log.exists() else 0
    reference = task.remote(todo.command, str(job.log.resolve()), str(Path.cwd()), environment)
    tasks.jobs[reference] = job
    job.say(todo.text.replace("started", "given to Ray"))


def _by_value(ray: Any) -> Any:
    """The function of a task, which takes its code along."""
    module = sys.modules[carry_out.__module__]
    ray.cloudpickle.register_pickle_by_value(module)
    return carry_out


def _say_if_too_large(job: Job, ray: Any, cpus: float, gpus: float) -> None:
    """Says that no machine could take a run now; a cluster that grows may get one."""
    nodes: Sequence[dict[str, Any]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        job.say(f"no machine of the cluster has {cpus:g} CPUs and {gpus:g} GPUs; Ray waits for one")


def _settle(tasks: _Tasks) -> None:
    """Takes in the answers that have come."""
    ray = tasks.ray
    if not tasks.jobs:
        return
    done, _ = ray.wait(list(tasks.jobs), num_returns=len(tasks.jobs), timeout=_LOOK_SECONDS)
    for reference in done:
        job = tasks.jobs.pop(reference)
        try:
            code, seconds, where = ray.get(reference)
        except ray.exceptions.TaskCancelledError:
            job.started = False
            job.say("not started")
        except (ray.exceptions.RayError, OSError) as error:
            job.end(None, 0.0)
            why = str(error).strip().splitlines()[-1:]
            job.say(f"{job.outcome()}: {type(error).__name__} {' '.join(why)}")
        else:
            job.end(code, seconds)
            job.say(f"{job.outcome()}, on {where}")


def _interrupt(tasks: _Tasks, *, again: bool) -> None:
    """Asks every run to stop. What Ray has not begun is taken back; the second time nobody is asked any more."""
    for reference, job in tasks.jobs.items():
        begun = job.log.exists() and job.log.stat().st_size > job.written
        if again or not begun:
            tasks.ray.cancel(reference, force=False)
        else:
            tasks.asked[job] = None
