"""A run that is ready to begin, or to go on from where it was saved; and what is to be said about how."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from trainer import mirrors, spec
from trainer.checkpoints import files, warm_start
from trainer.distributed import Alone
from trainer.errors import SpecError
from trainer.run import Run

_TOLD = 5
"""Tensors named one by one; the rest is counted."""


def begun(options: spec.Spec, experiments: Path, ranks: Alone) -> tuple[Run, list[str]]:
    """A run at its first step, with what it is to learn from another one.

    Args:
        options: the spec.
        experiments: where the other experiments lie.
        ranks: the processes that share the work.

    Raises:
        SpecError: the spec cannot be trained.
    """
    mirrors.check(options.mirrors)
    if options.warm_start is None:
        run = Run(options, ranks)
        return run, _about(run)
    donor = ranks.lead(lambda: warm_start.donor(options, experiments))
    try:
        state = files.load(donor.path)
    except files.BadCheckpoint as error:
        raise SpecError(f"warm_start: {error}") from None
    run = Run(options, ranks, donated=state)
    first, *rest = run.donated
    told = [f"warm start from {donor.path} ({donor.why}): {first}", *rest[:_TOLD]]
    if len(rest) > _TOLD:
        told.append(f"and {len(rest) - _TOLD} tensors more that begin anew or are left out")
    if options.warm_start.restore == "all":
        told.append(_optimizer_of(run, state))
    return run, [*_about(run), *told]


def _about(run: Run) -> list[str]:
    """What is to be said about the data, and about what several processes do in another way than one."""
    told = [remark for leg in run.legs for remark in leg.data.remarks]
    if run.ranks.world > 1:
        part = "each rank's part of a batch, so results depend on the number of ranks"
        if any(isinstance(module, _BatchNorm) for module in run.model.modules()):
            told.append(f"batch norm takes its statistics from {part}")
        if any(leg.options.mining for leg in run.legs):
            told.append(f"the hardest samples are chosen from {part}")
    return list(dict.fromkeys(told))


def _optimizer_of(run: Run, state: files.State) -> str:
    """Takes over the optimizer as well, where it fits; says whether."""
    before = run.ranks.optimizer_state(run.model, run.optimizer)
    try:
        run.ranks.load_optimizer(run.model, run.optimizer, _taken_over(state["optimizer"], before, run))
        run.precision.load_state_dict(state["precision"])
    except (ValueError, KeyError, RuntimeError) as error:
        run.ranks.load_optimizer(run.model, run.optimizer, before)
        return f"the optimizer begins anew: {error}"
    return "optimizer restored; step and data begin anew"


def _taken_over(theirs: files.State, mine: files.State, run: Run) -> files.State:
    """What their optimizer has learned, with the settings of mine.

    Raises:
        KeyError: theirs is another kind of optimizer.
        ValueError: as well, or it knows other parameters.
    """
    if "several" in mine:
        pairs = zip(theirs["several"], mine["several"], strict=True)
        return {"several": [_taken_over(one, other, run) for one, other in pairs]}
    settings = [set(group) for state in (theirs, mine) for group in state["param_groups"]]
    if any(names != settings[0] for names in settings):
        raise ValueError("theirs is of another kind")
    known = [{name for group in state["param_groups"] for name in group["params"]} for state in (theirs, mine)]
    if known[0] != known[1]:
        raise ValueError("theirs knows other parameters")
    shapes = {name: parameter.shape for name, parameter in run.model.named_parameters()}
    for name, values in theirs["state"].items():
        if any(isinstance(value, Tensor) and value.ndim and value.shape != shapes[name] for value in values.values()):
            raise ValueError(f"{name} has another shape")
    return {"state": theirs["state"], "param_groups": mine["param_groups"]}


def resumed(options: spec.Spec, folder: Path, ranks: Alone) -> tuple[Run, list[str], bool]:
    """A run that goes on from the newest sound checkpoint, what was restored and what not, and whether there was one.

    Raises:
        SpecError: no checkpoint is sound, or it does not fit the spec.
    """
    try:
        saved, troubles = files.load_newest(folder)
    except files.BadCheckpoint as error:
        raise SpecError(str(error)) from None
    if saved is None:
        run, remarks = begun(options, folder.parent, ranks)
        return run, [*troubles, "there is no checkpoint yet, so the run begins at its first step", *remarks], False
    mirrors.check(options.mirrors)
    run = Run(options, ranks)
    remarks = [*_about(run), *_restored(run, saved, folder)]
    return run, [*troubles, *ranks.lead(lambda: _tidied(run, folder)), *remarks], True


def _tidied(run: Run, folder: Path) -> list[str]:
    """Mends what a kill in the midst of writing a checkpoint has left; a sentence about what it could not."""
    files.sweep(folder)
    try:
        files.name_again(folder, files.LAST, run.step)
        if run.saving.best.step is not None:
            files.name_again(folder, files.BEST, run.saving.best.step)
    except OSError as error:
        return [f"the names of the checkpoints could not be mended: {error}"]
    return []


def _restored(run: Run, saved: files.State, folder: Path) -> list[str]:
    try:
        missing = run.load_state_dict(saved)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise SpecError(f"{folder}: its checkpoint does not fit what the spec builds ({what})") from None
    parts = ["model", "optimizer", "schedule", "data position", *([] if missing else ["random numbers"])]
    parts += ["loss scale"] if saved["precision"] else []
    parts += ["averaged weights"] if saved["ema"] else []
    return [f"resumed at step {run.step}: {', '.join(parts)} restored", *missing]
