"""What can go wrong before the first checkpoint, found in seconds: one real step, and no trace but a report."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from contract import Exit
from trainer.errors import SpecError
from trainer.named import raised
from trainer.optim import clip
from trainer.run import Run

_PRINTED = "  {}"


def dry_run(run: Run, place: Path) -> Exit:
    """Runs one step forward and backward and one evaluation, writes a probe where the run would, and reports.

    Args:
        run: a run that was built from a valid spec and has not begun.
        place: the folder that the run would write to, or in which it would be created.

    Returns:
        FINISHED when the run can start; FAILED when the step fails, a number is not finite or the place refuses it.
    """
    print(f"dry run: {run.options.name or 'a run'} of {run.total_steps} steps on {run.device}")
    faults: list[str] = []
    for part in (_size(run), _tried(run, faults), _disk(run, place, faults)):
        for line in part:
            print(_PRINTED.format(line), flush=True)
    for fault in faults:
        print(_PRINTED.format(f"FAULT: {fault}"))
    print("this run can start; nothing was kept" if not faults else f"{len(faults)} fault(s); nothing was kept")
    return Exit.FAILED if faults else Exit.FINISHED


def _size(run: Run) -> Iterator[str]:
    train = run.options.train
    weights = sum(parameter.numel() for parameter in run.model.parameters())
    learning = sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad)
    part = "" if learning == weights else f", {learning:,} of them learn"
    yield f"model: {run.options.model.kind}, {weights:,} weights{part}, {train.precision}"
    each = f" of {run.options.context} tokens" if run.leg.data.text else ""
    yield f"data: {len(run.loader.samples):,} samples{each} per epoch, {train.batch_size * train.accumulate:,} per step"


def _tried(run: Run, faults: list[str]) -> Iterator[str]:
    """One step and one evaluation; what they raise is what a dry run is there to find."""
    try:
        yield from _step(run, faults)
    except Exception as error:  # noqa: BLE001 - model, data and loss may be anybody's
        what = str(error) if isinstance(error, SpecError) else raised(error)
        faults.append(f"the first step or evaluation failed: {what}")


def _step(run: Run, faults: list[str]) -> Iterator[str]:
    began = time.perf_counter()
    loss = run.backward(run.loader.next_group(1), 1)
    run.precision.unscale(run.optimizer)
    norm = clip(run.outfit.weights, run.options.train.clip_norm)
    loss_value, norm_value = loss.item(), norm.item()
    took = time.perf_counter() - began
    # With fp16 the first gradients may overflow: that is how its scale is found.
    norms = {} if run.precision.scale() else {"gradient norm": norm_value}
    firsts = {"train loss": loss_value, **norms}
    faults += [f"the first {name} is {value}" for name, value in firsts.items() if not math.isfinite(value)]
    classes = 0 if run.task.name == "regression" else run.leg.data.outputs
    chance = f" (chance is {math.log(classes):.4g})" if classes > 1 else ""
    yield f"first step: train loss {loss_value:.4g}{chance}, gradient norm {norm_value:.4g}"
    yield f"forward and backward took {took:.3g} s; all steps at that pace: {run.total_steps * took / 60:.3g} min"
    if run.options.train.eval_every:
        found = run.evaluator(run.model, run.leg.data.val, "val_", batches=run.options.train.eval_batches)
        name = run.options.metric.name
        value = found.get(name)
        if value is not None and not math.isfinite(value):
            faults.append(f"the first {name} is {value}")
        yield f"first evaluation: {name} {'is not defined yet' if value is None else f'{value:.4g}'}"
    if run.device.type == "cuda":
        yield f"GPU memory: {torch.cuda.max_memory_allocated(run.device) / 2**20:,.0f} MiB at most"


def _disk(run: Run, place: Path, faults: list[str]) -> Iterator[str]:
    """A probe is written and removed; a folder that does not exist yet is probed where it would be created."""
    there = next(folder for folder in (place.resolve(), *place.resolve().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"probe")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        faults.append(f"{there} cannot be written to ({error.strerror})")
        return
    free = shutil.disk_usage(there).free
    # Weights and two moments in each, and all that stay.
    keep = run.options.checkpoints
    wanted = (
        3
        * (keep.keep_last + keep.keep_best + 1)
        * sum(parameter.numel() * parameter.element_size() for parameter in run.model.parameters())
    )
    yield f"disk: {there}: {free / 2**30:,.1f} GiB free; checkpoints take about {wanted / 2**20:,.3g} MiB"
    if wanted > free:
        faults.append(f"{there} has {free / 2**20:,.0f} MiB free, the checkpoints take about {wanted / 2**20:,.0f} MiB")
