"""From what was typed to a run: mint an experiment, run a pending one, resume one, or mint a child of one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from contract import (
    EXPERIMENT,
    Exit,
    Experiment,
    State,
    StatusFile,
    Unreadable,
    boot_id,
    decode_object,
    process_started,
    run_state,
    this_process,
)
from trainer import checkpoint, spec
from trainer.data import Text
from trainer.experiment import mint
from trainer.log import RunLog
from trainer.loop import Run, train


@dataclass(frozen=True)
class Order:
    """What was typed."""

    target: Path
    experiments: Path
    resume: bool = False
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
            print(f"{order.target.name} with {_taken(order.overlay)}", flush=True)
        return _run_new(order, options)
    experiment, state = _known(order.target)
    if order.resume:
        return _resume(order, experiment, state)
    options = spec.build(dict(experiment.config), where=str(order.target / EXPERIMENT))
    if state is State.PENDING and not order.changed:
        return _run(order.target, Run(options, Text.load(options.data)), [])
    child = spec.build(
        _child(order, experiment),
        where=str(order.target / EXPERIMENT),
        overlay=order.overlay,
        settings=order.settings,
    )
    changes = [_taken(order.overlay)] if order.overlay else []
    changes += [f"--set {setting}" for setting in order.settings]
    what = (
        ", ".join(changes) or f"nothing changed{'' if state is State.COMPLETED else ' (--resume would go on with it)'}"
    )
    print(f"{experiment.id} is {state}; training a new experiment, its child, with {what}", flush=True)
    return _run_new(order, child)


def _child(order: Order, parent: Experiment) -> spec.Document:
    """The parent's settings with words of its own: what a child tries is what was changed, not what its parent tried.

    A staged fault is not inherited either.
    """
    section = spec.section(order.overlay) if order.overlay else spec.Part()
    changes = [_worded(setting) for setting in order.settings if setting.partition("=")[0].strip() not in _WORDS]
    name = section.name or ("" if order.overlay is None else order.overlay.stem)
    if section.idea or section.name:
        hypothesis = "; ".join([section.idea or section.name, *changes])
    elif order.changed:
        hypothesis = f"{parent.id} with {', '.join(([name] if name else []) + changes)}"
    else:
        hypothesis = f"{parent.id} once more, with nothing changed"
    words = {"name": (name or ", ".join(changes))[:200], "hypothesis": hypothesis, "rationale": section.rationale}
    inherited = {key: value for key, value in parent.config.items() if key != "rehearsal"}
    return {**inherited, **words, "parent": parent.id}


_WORDS = ("name", "hypothesis", "rationale")


def _worded(setting: str) -> str:
    key, _, value = setting.partition("=")
    return f"{key.strip()} = {value.strip()}"


def _taken(overlay: Path) -> str:
    """Which part of a file is laid on top."""
    name = spec.section(overlay).name
    return f"{overlay.name.partition('#')[0]}, section {name}" if name else str(overlay)


def _run_new(order: Order, options: spec.Spec) -> Exit:
    text = Text.load(options.data)
    run = Run(options, text)
    try:
        folder = mint(order.experiments, options, text)
    except OSError as error:
        raise spec.SpecError(f"{error.filename}: no experiment can be created there ({error.strerror})") from None
    return _run(folder, run, [])


def _resume(order: Order, experiment: Experiment, state: State) -> Exit:
    if order.changed:
        raise spec.SpecError("--resume continues exactly what was there; leave it out to mint a child with the change")
    if state is State.COMPLETED:
        print(f"{experiment.id} is complete; there is nothing to resume in {order.target}")
        return Exit.FINISHED
    options = spec.build(dict(experiment.config), where=str(order.target / EXPERIMENT))
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
    return _run(order.target, run, remarks, resume=saved is not None)


_SMALL = 1_000_000
"""Weights below which a second thread on a CPU gains little and may cost a lot.

Measured on two cores, 100 steps of zoo/healthy.toml: 2.8 and 2.9 s with one thread; with two 1.7 s while the machine
was idle but 12.1 s beside other work, since the threads wait for each other at every operation.
"""


def _spare_the_cores(run: Run) -> None:
    """One thread for a small model on a CPU, unless somebody has said how many."""
    small = sum(weights.numel() for weights in run.model.parameters()) < _SMALL
    if small and run.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def _run(folder: Path, run: Run, remarks: list[str], *, resume: bool = False) -> Exit:
    _spare_the_cores(run)
    with RunLog(folder, resume=resume) as log:
        print(f"{log.experiment.id} -> {folder} ({run.device}, {run.total_steps} steps)", flush=True)
        for remark in remarks:
            print(f"{log.experiment.id}: {remark}", flush=True)
            log.note(remark)
        run.start(folder, log)
        kill = train(run)
    best = "" if run.best is None else f", best {run.options.metric.name} {run.best:.4f}"
    why = f": {kill.reason}" if kill else ""
    print(f"{log.experiment.id} {log.state} at step {run.step} of {run.total_steps}{best}{why}", flush=True)
    return Exit.STOPPED if kill else Exit.FINISHED


def _known(folder: Path) -> tuple[Experiment, State]:
    """The experiment in a folder and where it stands.

    Raises:
        SpecError: it is no experiment, or it is being trained at this moment.
    """
    path = folder / EXPERIMENT
    try:
        experiment = Experiment.parse(decode_object(path.read_bytes(), str(path)))
        status = StatusFile(folder).read()
    except FileNotFoundError:
        raise spec.SpecError(f"{folder}: has no {EXPERIMENT}; give a spec (.toml) or an experiment's folder") from None
    except Unreadable as error:
        raise spec.SpecError(str(error)) from None
    if status is None:
        return experiment, State.PENDING
    state = run_state(status)
    pid = _living(status.get("process"))
    if state is State.RUNNING and pid:
        raise spec.SpecError(f"{folder}: is being trained by process {pid} at this moment; ask it to stop first")
    return experiment, state


def _living(process: object) -> int | None:
    """The pid of the process in a status document when it is alive on this machine; a reused pid does not count."""
    if not isinstance(process, dict) or not isinstance(process.get("pid"), int):
        return None
    if (process.get("host"), process.get("boot_id")) != (this_process().host, boot_id()):
        return None
    started = process_started(process["pid"])
    return process["pid"] if started is not None and started == process.get("started") else None
