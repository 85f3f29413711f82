"""From what was typed to a run: mint an experiment, run a pending one, resume one, or mint a child of one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from contract import EXPERIMENT, Exit, Experiment, State, config_hash
from trainer import child, fail_fast, fingerprints, known, mirrors, spec
from trainer.checkpoints import files, warm_start
from trainer.dry_run import dry_run
from trainer.experiment import record, runs_on
from trainer.log import RunLog
from trainer.loop import train
from trainer.mint import mint
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
    """Carries out an order.

    Raises:
        SpecError: the order cannot be carried out; nothing was created or started.
    """
    if order.fail_fast:
        fail_fast.check()
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
    run, remarks = _built(options, order.target.parent)
    if order.dry_run:
        return dry_run(run, order.target)
    found = runs_on(order.target.parent, options, run.legs)
    changed = fingerprints.mismatches(experiment.fingerprints, found)
    return _run(order, order.target, run, found, [*(f"since it was created, {change}" for change in changed), *remarks])


def _built(options: spec.Spec, experiments: Path) -> tuple[Run, list[str]]:
    """A run that begins, with what it is told of another run; and what there is to remark of both.

    Raises:
        SpecError: the spec cannot be trained.
    """
    mirrors.check(options.mirrors)
    run = Run(options)
    remarks = [remark for leg in run.legs for remark in leg.data.remarks]
    if options.warm_start is not None:
        remarks += _warmed(run, warm_start.donor(options, experiments), everything=options.warm_start.restore == "all")
    return run, list(dict.fromkeys(remarks))


def _warmed(run: Run, donor: warm_start.Donor, *, everything: bool) -> list[str]:
    try:
        state = files.load(donor.path)
    except files.BadCheckpoint as error:
        raise spec.SpecError(f"warm_start: {error}") from None
    first, *rest = warm_start.restore(run.model, state)
    told = [f"warm start from {donor.path} ({donor.why}): {first}", *rest[:_TOLD]]
    if len(rest) > _TOLD:
        told.append(f"and {len(rest) - _TOLD} tensors more that begin anew or are left out")
    if run.ema:
        run.ema.load_state_dict(run.model.state_dict())
    return [*told, _optimizer_of(run, state)] if everything else told


def _optimizer_of(run: Run, state: files.State) -> str:
    """Takes over the optimizer as well, where it fits; says whether."""
    before = run.optimizer.state_dict()
    try:
        run.optimizer.load_state_dict(state["optimizer"])
        run.precision.load_state_dict(state["precision"])
    except (ValueError, KeyError, RuntimeError) as error:
        run.optimizer.load_state_dict(before)
        return f"the optimizer begins anew: {error}"
    return "optimizer restored; step and data begin anew"


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
    run, remarks = _built(options, order.experiments)
    if order.dry_run:
        return dry_run(run, order.experiments)
    try:
        found = record(order.experiments, options, run.legs)
        folder = mint(order.experiments, found)
    except OSError as error:
        raise spec.SpecError(f"{error.filename}: no experiment can be created there ({error.strerror})") from None
    return _run(order, folder, run, found.fingerprints, remarks)


def _resume(order: Order, experiment: Experiment, state: State) -> Exit:
    if order.changed or order.dry_run:
        raise spec.SpecError("--resume continues exactly what was there; leave it out to mint a child with the change")
    if state is State.COMPLETED:
        print(f"{experiment.id} is complete; there is nothing to resume in {order.target}")
        return Exit.FINISHED
    options = _options(order.target, experiment)
    mirrors.check(options.mirrors)
    options = options.model_copy(update={"rehearsal": spec.Rehearsal()})  # a staged fault has happened
    run = Run(options)
    found = runs_on(order.target.parent, options, run.legs)
    remarks = [f"since the run began, {change}" for change in fingerprints.mismatches(experiment.fingerprints, found)]
    try:
        saved, troubles = files.load_newest(order.target)
    except files.BadCheckpoint as error:
        raise spec.SpecError(str(error)) from None
    remarks += troubles
    if saved is None:
        remarks.append("there is no checkpoint yet, so the run begins at its first step")
        if options.warm_start is not None:
            donor = warm_start.donor(options, order.target.parent)
            remarks += _warmed(run, donor, everything=options.warm_start.restore == "all")
    else:
        remarks += _restored(run, saved, order.target)
    return _run(order, order.target, run, found, remarks, resume=saved is not None)


def _restored(run: Run, saved: files.State, folder: Path) -> list[str]:
    """Has the run go on from what was saved; says what was restored, and what was not.

    Raises:
        SpecError: it is another program's state, or that of another version of this one.
    """
    try:
        missing = run.load_state_dict(saved)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise spec.SpecError(f"{folder}: its checkpoint does not fit what the spec builds ({what})") from None
    parts = ["model", "optimizer", "schedule", "data position", *([] if missing else ["random numbers"])]
    parts += ["loss scale"] if saved["precision"] else []
    parts += ["averaged weights"] if saved["ema"] else []
    return [f"resumed at step {run.step}: {', '.join(parts)} restored", *missing]


_TOLD = 5
"""Tensors named one by one; the rest is counted."""

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
    if order.fail_fast:
        remarks = [fail_fast.start(folder.resolve()), *remarks]
    mirrored = run.options.mirrors if run.ranks.leads else ()
    with mirrors.following(folder, mirrored, tell=print), RunLog(folder, resume=resume) as log:
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
