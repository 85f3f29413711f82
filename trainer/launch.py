"""From what was typed to a run: mint an experiment, run a pending one, resume one, or mint a child of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from contract import EXPERIMENT, Exit, Experiment, State, config_hash
from trainer import checkpoint, child, fingerprints, known, spec
from trainer.data import Text
from trainer.dry_run import dry_run
from trainer.experiment import record, runs_on
from trainer.log import RunLog
from trainer.loop import Run, train
from trainer.mint import mint


@dataclass(frozen=True)
class Order:
    """What was typed."""

    target: Path
    experiments: Path
    resume: bool = False
    dry_run: bool = False
    overlay: Path | None = None
    settings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return self.overlay is not None or bool(self.settings)


def launch(order: Order) -> Exit:
    """Carries out an order.

    Raises:
        SpecError: the order cannot be carried out; nothing was created or started.
    """
    if not order.target.is_dir():
        if order.resume:
            raise spec.SpecError(f"{order.target}: --resume wants the folder of an experiment, such as exp-001")
        options = spec.load(order.target, overlay=order.overlay, settings=order.settings)
        if order.overlay:
            print(f"{order.target.name} with {child.taken(order.overlay)}", flush=True)
        return _run_new(order, options)
    experiment, state = known.read(order.target)
    if order.resume:
        return _resume(order, experiment, state)
    options = _options(order.target, experiment)
    if state is State.PENDING and not order.changed:
        return _run_pending(order, experiment, options)
    return _run_child(order, experiment, state)


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
    text = Text.load(options.data)
    run = Run(options, text)
    if order.dry_run:
        return dry_run(run, order.target)
    found = runs_on(order.target.parent, options, text)
    changed = fingerprints.mismatches(experiment.fingerprints, found)
    return _run(order.target, run, found, [f"since it was created, {change}" for change in changed])


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
    text = Text.load(options.data)
    run = Run(options, text)
    if order.dry_run:
        return dry_run(run, order.experiments)
    try:
        found = record(order.experiments, options, text)
        folder = mint(order.experiments, found)
    except OSError as error:
        raise spec.SpecError(f"{error.filename}: no experiment can be created there ({error.strerror})") from None
    return _run(folder, run, found.fingerprints, [])


def _resume(order: Order, experiment: Experiment, state: State) -> Exit:
    if order.changed or order.dry_run:
        raise spec.SpecError("--resume continues exactly what was there; leave it out to mint a child with the change")
    if state is State.COMPLETED:
        print(f"{experiment.id} is complete; there is nothing to resume in {order.target}")
        return Exit.FINISHED
    options = _options(order.target, experiment)
    options = options.model_copy(update={"rehearsal": spec.Rehearsal()})  # a staged fault has happened
    run = Run(options, Text.load(options.data))
    try:
        saved, remarks = checkpoint.load_newest(order.target)
    except checkpoint.BadCheckpoint as error:
        raise spec.SpecError(str(error)) from None
    if saved is None:
        remarks.append("there is no checkpoint yet, so the run begins at its first step")
    else:
        run.load_state_dict(saved)
        remarks.append(f"resumed at step {run.step}")
    found = runs_on(order.target.parent, options, run.text)
    return _run(order.target, run, found, remarks, resume=saved is not None)


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


def _run(folder: Path, run: Run, found: Mapping[str, Any], remarks: list[str], *, resume: bool = False) -> Exit:
    """Trains; `found` are the fingerprints of what it depends on, as it is now."""
    spare_the_cores(run)
    with RunLog(folder, resume=resume) as log:
        print(f"{log.experiment.id} -> {folder} ({run.device}, {run.total_steps} steps)", flush=True)
        for remark in remarks:
            print(f"{log.experiment.id}: {remark}", flush=True)
            log.note(remark)
        run.start(folder, log, {**found, "config": config_hash(log.experiment.config)})
        kill = train(run)
    best = "" if run.best is None else f", best {run.options.metric.name} {run.best:.4f}"
    why = f": {kill.reason}" if kill else ""
    print(f"{log.experiment.id} {log.state} at step {run.step} of {run.total_steps}{best}{why}", flush=True)
    return Exit.STOPPED if kill else Exit.FINISHED
