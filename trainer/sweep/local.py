"""A sweep on this machine, some runs at a time, one process each: a run that dies takes nobody with it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence

from contract import SWEEP
from trainer.sweep import slurm
from trainer.sweep.asking import ask
from trainer.sweep.begun import step
from trainer.sweep.job import Job, table
from trainer.sweep.plan import Plan
from trainer.sweep.stopping import called_off, listening, reason

_LOOK_SECONDS = 0.1

_Running = dict[Job, "subprocess.Popen[bytes]"]


def sweep(plan: Plan) -> int:
    """Trains every spec of a plan. Returns 0 when every run finished or was stopped on request.

    Raises:
        SpecError: there is nothing to train.
    """
    everything = prepared(plan)
    waiting, running, asked = list(everything), _Running(), dict[Job, None]()
    with listening(*slurm.SIGNALS) as received:
        heard = 0
        while running or (waiting and not received):
            called_off(plan, waiting)
            while waiting and len(running) < (plan.jobs or 1) and not received:
                _start(waiting.pop(0), plan, running)
            time.sleep(_LOOK_SECONDS)
            for signum in received[heard:]:
                _pass_on(signum, running, asked, by_file=slurm.IN_A_JOB and not heard)
                heard += 1
            for job in [job for job in asked if job not in running or ask(job, reason(received))]:
                del asked[job]
            for job in [job for job in running if running[job].poll() is not None]:
                job.end(running.pop(job).returncode)
                job.say(job.outcome())
    return ended(plan, everything, received)


def prepared(plan: Plan) -> list[Job]:
    """The jobs of a plan.

    Raises:
        SpecError: there are none.
    """
    specs = plan.specs()
    plan.logs.mkdir(parents=True, exist_ok=True)
    return [Job(path, plan.logs / f"{path.stem}.log", plan.experiments) for path in specs]


def ended(plan: Plan, jobs: Sequence[Job], received: Sequence[int], *options: str) -> int:
    """Says what came of all jobs, and how to go on after an interruption: with these `options` again."""
    print(table(jobs), flush=True)
    if received:
        words = [
            "trainer",
            "sweep",
            str(plan.target),
            "--experiments",
            str(plan.experiments),
            "--id",
            plan.id,
            *options,
        ]
        words += [word for setting in plan.settings for word in ("--set", setting)]
        print(f"interrupted; to go on with it: {shlex.join(words)}", flush=True)
        slurm.requeue(received)
    return 0 if all(job.accounted_for for job in jobs) else 1


def _start(job: Job, plan: Plan, running: _Running) -> None:
    """Starts what is to be done about a spec, if anything is."""
    todo = step(plan, job)
    job.say(todo.text)
    if todo.command is None:
        job.code = todo.code
        return
    threads = str(max(1, _cores() // (plan.jobs or 1)))
    job.start()
    with job.log.open("ab") as output:
        running[job] = subprocess.Popen(  # noqa: S603 - this program itself
            todo.command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONUTF8": "1", SWEEP: plan.id},
            start_new_session=True,  # Ctrl-C reaches the runs once, through us: twice would mean "now"
        )


def _cores() -> int:
    """Processors that this process may use: of a large machine a batch job has a few."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pass_on(signum: int, running: _Running, asked: dict[Job, None], *, by_file: bool) -> None:
    """Passes a signal on to the runs.

    Slurm signals every process of a job that it cancels. There a run is first asked by its file, which is the same once
    and twice.
    """
    for job, process in running.items():
        if by_file:
            asked[job] = None
        elif process.poll() is None:
            process.send_signal(signum if signum == signal.SIGINT else signal.SIGTERM)
