"""From what was typed to a run: mint an experiment, run a pending one, resume one, or mint a child of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from contract import EXPERIMENT, SWEEP, Exit, Experiment, State, config_hash, sweep_stop
from trainer import child, fail_fast, fingerprints, known, mirrors, prepare, spec
from trainer.distributed import joined
from trainer.dry_run import dry_run
from trainer.experiment import record, runs_on
from trainer.log import RunLog
from trainer.loop import train
from trainer.mint import mint
from trainer.ranks import rank
from trainer.run import Run


@dataclass(frozen=True)
class Order:
    """What was typed."""

    target: Path
    experiments: Path
    resume: bool = False
    dry_run: bool = False
    fail_fast: bool = False
    overlay: Path | None = None
    settings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return self.overlay is not None or bool(self.settings)


def launch(order: Order) -> Exit:
    """Carries out an order; of the processes of one launch, only the first one speaks.

    Raises:
        SpecError: the order cannot be carried out; nothing was created or started.
    """
    if rank() == 0:
        return _launch(order)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        return _launch(order)


def _launch(order: Order) -> Exit:
    if order.fail_fast:
        fail_fast.check()
    if not order.target.is_dir():
        if order.resume:
            raise spec.SpecError(f"{order.target}: --resume wants the folder of an experiment, such as exp-001")
        options = spec.load(order.target, overlay=order.overlay, settings=order.settings)
        if order.overlay:
            print(f"{order.target.name} with {child.taken(order.overlay)}", flush=True)
        if not order.dry_run and (why := called_off(order.experiments, options)):
            print(f"{order.target.name} is not begun: {why}", flush=True)
            return Exit.STOPPED
        return _run_new(order, options)
    experiment, state = known.read(order.target)
    if order.resume:
        return _resume(order, experiment, state)
    options = _options(order.target, experiment)
    if state is State.PENDING and not order.changed:
        return _run_pending(order, experiment, options)
    return _run_child(order, experiment, state)


def called_off(experiments: Path, options: spec.Spec) -> str:
    """Why this spec is not to be begun any more, if what is left of its sweep was told to stop."""
    note = sweep_stop(experiments, os.environ.get(SWEEP, ""))
    return note.reason if note is not None and note.concerns(spec.config(options)) else ""


def _options(folder: Path, experiment: Experiment) -> spec.Spec:
    """The spec in an experiment's record.

    Raises:
        SpecError: it is not one that this program can train.
    """
    try:
        return spec.build(dict(experiment.config), where=str(folder / EXPERIMENT))
    except spec.SpecError as error:
        other = f"if another program trains it: trainer exec {experiment.id} -- COMMAND"
        raise spec.SpecError(f"{error}\n  {other}") from None


def _run_pending(order: Order, experiment: Experiment, options: spec.Spec) -> Exit:
    with joined(options) as ranks:
        run, remarks = prepare.begun(options, order.target.parent, ranks)
        if order.dry_run:
            return dry_run(run, order.target)
        found = runs_on(order.target.parent, options, run.legs)
        changed = fingerprints.mismatches(experiment.fingerprints, found)
        return _run(order, order.target, run, found, [*(f"since it was created, {item}" for item in changed), *remarks])


def _run_child(order: Order, parent: Experiment, state: State) -> Exit:
    options = spec.build(
        child.settings(parent, order.overlay, order.settings),
        where=str(order.target / EXPERIMENT),
        overlay=order.overlay,
        settings=order.settings,
    )
    changes = [child.taken(order.overlay)] if order.overlay else []
    changes += [f"--set {setting}" for setting in order.settings]
    what = (
        ", ".join(changes) or f"nothing changed{'' if state is State.COMPLETED else ' (--resume would go on with it)'}"
    )
    print(f"{parent.id} is {state}; training a new experiment, its child, with {what}", flush=True)
    return _run_new(order, options)


def _run_new(order: Order, options: spec.Spec) -> Exit:
    with joined(options) as ranks:
        run, remarks = prepare.begun(options, order.experiments, ranks)
        if order.dry_run:
            return dry_run(run, order.experiments)
        folder, found = ranks.lead(lambda: _minted(order.experiments, options, run))
        return _run(order, folder, run, found, remarks)


def _minted(root: Path, options: spec.Spec, run: Run) -> tuple[Path, Mapping[str, Any]]:
    """The folder of a new experiment, and the fingerprints of what it depends on.

    Raises:
        SpecError: nothing can be created there.
    """
    try:
        found = record(root, options, run.legs)
        return mint(root, found), found.fingerprints
    except OSError as error:
        raise spec.SpecError(f"{error.filename}: no experiment can be created there ({error.strerror})") from None


def _resume(order: Order, experiment: Experiment, state: State) -> Exit:
    if order.changed or order.dry_run:
        raise spec.SpecError("--resume continues exactly what was there; leave it out to mint a child with the change")
    if state is State.COMPLETED:
        print(f"{experiment.id} is complete; there is nothing to resume in {order.target}")
        return Exit.FINISHED
    options = _options(order.target, experiment)
    options = options.model_copy(update={"rehearsal": spec.Rehearsal()})  # a staged fault has happened
    with joined(options) as ranks:
        run, remarks, resumed = prepare.resumed(options, order.target, ranks)
        found = runs_on(order.target.parent, options, run.legs)
        changed = fingerprints.mismatches(experiment.fingerprints, found)
        remarks = [*(f"since it began, {item}" for item in changed), *remarks]
        return _run(order, order.target, run, found, remarks, resume=resumed)


_SMALL = 1_000_000
"""Weights below which a second thread on a CPU gains little and may cost a lot.

Measured on two cores, 100 steps of zoo/healthy.toml: 2.8 and 2.9 s with one thread; with two 1.7 s while the machine
was idle but 12.1 s beside other work, since the threads wait for each other at every operation.
"""


def spare_the_cores(run: Run) -> None:
    """One thread for a small model on a CPU, unless somebody has said how many."""
    small = sum(weights.numel() for weights in run.model.parameters()) < _SMALL
    if small and run.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def _run(
    order: Order, folder: Path, run: Run, found: Mapping[str, Any], remarks: list[str], *, resume: bool = False
) -> Exit:
    """Trains; `found` are the fingerprints of what it depends on, as it is now."""
    spare_the_cores(run)
    if order.fail_fast and run.ranks.leads:
        remarks = [fail_fast.start(folder.resolve()), *remarks]
    mirrored = run.options.mirrors if run.ranks.leads else ()
    with mirrors.following(folder, mirrored, tell=print), RunLog(folder, resume=resume) as log:
        print(f"{log.experiment.id} -> {folder} ({run.device}, {run.total_steps} steps)", flush=True)
        for remark in remarks:
            print(f"{log.experiment.id}: {remark}", flush=True)
            log.note(remark)
        run.start(folder, log, {**found, "config": config_hash(log.experiment.config)})
        kill = train(run)
    best = "" if run.best is None else f", best {run.options.metric.name} {run.best:.6g}"
    why = f": {kill.reason}" if kill else ""
    print(f"{log.experiment.id} {log.state} at step {run.step} of {run.total_steps}{best}{why}", flush=True)
    return Exit.STOPPED if kill else Exit.FINISHED
