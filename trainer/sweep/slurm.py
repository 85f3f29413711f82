"""A sweep as an array of Slurm jobs: the script for `sbatch`, and what one of its jobs has to know about Slurm.

There is no scheduler here. Each job of the array carries out one spec as `trainer sweep SPEC --id …` does anywhere, in
the same folder of experiments, and a job that comes again goes on with what it had begun.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import SpecError
from trainer.sweep.plan import TRAINER, Plan, plain_name

IN_A_JOB = "SLURM_JOB_ID" in os.environ
"""Whether Slurm has started this process."""

LIMIT = signal.SIGUSR1 if hasattr(signal, "SIGUSR1") else None
"""Its time is nearly up. It is another signal than that of a cancelled or preempted job: only after this one does the
job ask to come again."""

SIGNALS = (LIMIT,) if IN_A_JOB and LIMIT is not None else ()

NOTICE_SECONDS = 120
"""Before the time limit: for the step that is under way, a checkpoint, and Slurm's own pace, which is a minute."""


@dataclass(frozen=True)
class Resources:
    """What a run is given; None for what the cluster usually gives."""

    time: str | None = None
    partition: str | None = None
    gpus: float | None = None
    cpus: float | None = None


def script(plan: Plan, resources: Resources, sweep: str | None = None) -> str:
    """The script that `sbatch` takes, with one spec for each index of its array.

    Each submission is a sweep of its own, unless its id is given as `sweep`.

    Raises:
        SpecError: there is no spec, or Slurm could not read what is asked for.
    """
    specs = [path.resolve() for path in plan.specs()]
    name = plain_name(plan.target)
    settings = [word for setting in plan.settings for word in ("--set", setting)]
    run = shlex.join(list(TRAINER))
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH --{line}" for line in _directives(name, len(specs), plan, resources)),
        watch=shlex.join(["checker", "watch", str(plan.experiments.resolve())]),
        folder=shlex.quote(str(Path.cwd())),
        experiments=shlex.quote(str(plan.experiments.resolve())),
        specs="\n".join(f"    {shlex.quote(str(path))}" for path in specs),
        sweep=sweep or f'"{name}-$SLURM_ARRAY_JOB_ID"',
        run=run,
        settings="".join(f" {shlex.quote(word)}" for word in settings),
    )


_SCRIPT = """\
#!/bin/bash
{directives}
#
# Submit it with `sbatch FILE`. Beside it, on any machine that sees the folder, let a checker watch:
#
#     {watch}
#
# It asks doomed runs to stop through their status files and signals nobody on another machine. What it has stopped is
# not begun again; a run that has come to its time limit, or was preempted, goes on where it was.

cd -- {folder} || exit 2
experiments={experiments}
specs=(
{specs}
)
index=${{SLURM_ARRAY_TASK_ID:?this is a script for sbatch}}
spec=${{specs[$index]:?there is no spec of this index}}

# exec: the signal of the time limit goes to this process, which is to be the one that asks the run to stop.
exec {run} sweep "$spec" --experiments "$experiments" --id {sweep}{settings}
"""


def _directives(name: str, specs: int, plan: Plan, resources: Resources) -> list[str]:
    at_once = f"%{plan.jobs}" if plan.jobs else ""
    lines = [f"job-name={name}", f"array=0-{specs - 1}{at_once}", "ntasks=1"]
    lines += [f"time={_word('--time', resources.time)}"] if resources.time else []
    lines += [f"partition={_word('--partition', resources.partition)}"] if resources.partition else []
    lines += [f"gres=gpu:{_whole('--gpus-per-run', resources.gpus)}"] if resources.gpus else []
    lines += [f"cpus-per-task={_whole('--cpus-per-run', resources.cpus)}"] if resources.cpus else []
    usr1 = f"signal=B:USR1@{NOTICE_SECONDS}"
    return [*lines, usr1, "requeue", "open-mode=append", "output=slurm-%x-%A_%a.out"]


def _word(option: str, value: str) -> str:
    """A value that is one word for Slurm.

    Raises:
        SpecError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9,._:-]+", value):
        raise SpecError(f"{option} {value!r}: must be one word of letters, digits and ,._:-")
    return value


def _whole(option: str, value: float) -> int:
    """A number of things that Slurm counts.

    Raises:
        SpecError: it is a part of one.
    """
    if value != int(value):
        raise SpecError(f"{option} {value:g}: Slurm gives whole ones only")
    return int(value)


def requeue(received: Sequence[int]) -> None:
    """Asks Slurm to start this job again, if it ends for its time limit; the run then goes on."""
    job = os.environ.get("SLURM_JOB_ID")
    if LIMIT not in received or job is None:
        return
    try:
        answer = subprocess.run(  # noqa: S603 - Slurm's own program, for this very job
            ["scontrol", "requeue", job],  # noqa: S607 - wherever the cluster has it
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        trouble = answer.stderr.strip() if answer.returncode else ""
    except OSError as error:
        trouble = str(error)
    told = f"could not be asked to start job {job} again ({trouble})" if trouble else f"starts job {job} again"
    print(f"trainer: Slurm {told}", file=sys.stderr, flush=True)
