"""From what was typed to a run: mint an experiment, run a pending one, resume one, or mint a child of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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
        return _run_new(order, spec.load(order.target, overlay=order.overlay, settings=order.settings))
    experiment, state = _known(order.target)
    if order.resume:
        return _resume(order, experiment, state)
    options = spec.build(dict(experiment.config), where=str(order.target / EXPERIMENT))
    if state is State.PENDING and not order.changed:
        return _run(order.target, Run(options, Text.load(options.data)), [])
    config = {**experiment.config, "parent": experiment.id}
    where = str(order.target / EXPERIMENT)
    return _run_new(order, spec.build(config, where=where, overlay=order.overlay, settings=order.settings))


def _run_new(order: Order, options: spec.Spec) -> Exit:
    text = Text.load(options.data)
    run = Run(options, text)
    return _run(mint(order.experiments, options, text), run, [])


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


def _run(folder: Path, run: Run, remarks: list[str], *, resume: bool = False) -> Exit:
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
