"""Our training loop on a GPU: a GPT of GPT-2's smallest shape in bf16, beside a loop written by hand that logs nothing.

Tells tokens per second, the share of the GPU's arithmetic that does the model's work, and how often a step makes the
processor wait for the GPU, which it should never. Needs torch and pydantic only.

Usage: python tests/bench/trainer_speed_gpu.py [--smoke]   (a small model on the CPU, to see that it works)
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

import trainer.data
from trainer import model, spec
from trainer.checkpoints import randomness
from trainer.data import Data
from trainer.data.order import Order
from trainer.log import RunLog
from trainer.loop import train
from trainer.run import Run

PEAK, WARM, FINAL = 6e-4, 10, 0.1
CLIP, DECAY, BETAS, SEED = 1.0, 0.1, (0.9, 0.95), 1

PEAK_FLOPS = {
    "B200": 2.25e15,
    "H200": 989.4e12,
    "H100 PCIe": 756e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
}
"""Dense bf16 operations per second by a part of the device's name: NVIDIA's data sheets, without sparsity."""

WAITS = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy")
"""Calls of the CUDA runtime that return when the GPU is done; `cudaMemcpyAsync` is another one, and does not wait."""

WARNING = "called a synchronizing CUDA operation"
"""What torch says at each wait that it notices, once asked to."""


class Setup(NamedTuple):
    """What is trained, where and for how long."""

    device: str
    layers: int
    heads: int
    width: int
    context: int
    vocabulary: int
    batch: int
    precision: str
    compile: bool
    steps: int = 60
    warm_up: int = 20
    """Steps at the begin that do not count; a model is compiled in the first."""
    rounds: int = 4

    def options(self) -> spec.Spec:
        """As somebody would write it down for `trainer run`, with nothing but steps in the run."""
        shape = {"layers": self.layers, "heads": self.heads, "width": self.width, "context": self.context}
        return spec.build(
            {
                "seed": SEED,
                "device": self.device,
                "model": shape,
                "data": {"max_bytes": 8_000_000 if self.device == "cuda" else 100_000},
                "optimizer": {"kind": "adamw", "lr": PEAK, "betas": list(BETAS), "weight_decay": DECAY},
                "schedule": {"kind": "cosine", "warmup_steps": WARM, "final_lr_ratio": FINAL},
                "train": {
                    "steps": self.steps,
                    "batch_size": self.batch,
                    "clip_norm": CLIP,
                    "eval_every": 0,
                    "checkpoint_every": 0,
                    "precision": self.precision,
                    "compile": self.compile,
                },
            },
            where="bench",
        )


EAGER = Setup("cuda", 12, 12, 768, 1024, vocabulary=50_304, batch=16, precision="bf16", compile=False)
"""50,304 tokens: GPT-2's 50,257, filled up to a multiple of 64, as nanoGPT does; the text has 256 of them only."""
COMPILED = EAGER._replace(compile=True)
SMOKE = Setup("cpu", 1, 2, 16, 16, vocabulary=300, batch=4, precision="bf16", compile=False, steps=25, rounds=1)

Watch = Callable[[Optimizer], None]


# ------------------------------------------------------------------------------------------------- the contestants


def ours(setup: Setup, _data: Data, folder: Path, watch: Watch) -> nn.Module:
    """As `trainer run` does it, every step logged; the last step saves a checkpoint, which is not timed."""
    run = Run(setup.options())
    watch(run.optimizer)
    with RunLog(folder, total_steps=run.total_steps) as log:
        run.start(folder, log, {})
        train(run)
    return run.model


def by_hand(setup: Setup, data: Data, _folder: Path, watch: Watch) -> nn.Module:
    """The least that trains."""
    device = torch.device(setup.device)
    randomness.seed_everything(SEED)
    network = model.build(setup.options(), data).to(device)
    forward: Any = torch.compile(network) if setup.compile else network
    optimizer = adamw(network)
    watch(optimizer)
    offsets = torch.arange(setup.context + 1)
    for step, windows in enumerate(torch.split(order(setup, data), setup.batch), 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, setup.steps)
        both = data.train.text[windows[:, None] * setup.context + offsets].long()
        tokens, targets = (moved(part, device) for part in (both[:, :-1], both[:, 1:]))
        with torch.autocast(setup.device, dtype=torch.bfloat16):
            logits = forward(tokens)
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return network


CONTESTANTS = {"by hand, logs nothing": by_hand, "`trainer run`": ours}


def adamw(network: nn.Module) -> Optimizer:
    weights = list(network.parameters())
    groups = [
        {"params": [item for item in weights if item.ndim >= 2], "weight_decay": DECAY},
        {"params": [item for item in weights if item.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, fused=True)


def rate(step: int, steps: int) -> float:
    """The learning rate of a step, the first being 1."""
    if step <= WARM:
        return PEAK * step / WARM
    left = (1 + math.cos(math.pi * (step - WARM) / (steps - WARM))) / 2
    return PEAK * (FINAL + (1 - FINAL) * left)


def order(setup: Setup, data: Data) -> Tensor:
    """The windows of our first epoch, in its order."""
    count = len(data.train)
    assert count >= setup.batch * setup.steps, f"the text has {count} windows only"
    return Order(count, f"epoch 0 of seed {SEED}").numbers(0, setup.batch * setup.steps)


def moved(batch: Tensor, device: torch.device) -> Tensor:
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch


# ------------------------------------------------------------------------------------------------- the measurement


class Edges:
    """Calls `begin` after the warm-up and `end` after the last step, with the GPU idle at both.

    A hook of the optimizer, so that a compiled model stays as it is.
    """

    def __init__(self, setup: Setup, begin: Callable[[], object], end: Callable[[], object]) -> None:
        self.at = {setup.warm_up: begin, setup.steps: end}
        self.done = 0
        self.cuda = setup.device == "cuda"

    def watch(self, optimizer: Optimizer) -> None:
        optimizer.register_step_post_hook(lambda *_: self._count())

    def _count(self) -> None:
        self.done += 1
        if act := self.at.get(self.done):
            if self.cuda:
                torch.cuda.synchronize()
            act()


def one_run(contestant: Callable[..., nn.Module], setup: Setup, data: Data, edges: Edges) -> float:
    """A whole run; returns a figure that tells its weights."""
    gc.collect()
    if setup.device == "cuda":
        torch.cuda.empty_cache()
    torch.compiler.reset()
    with tempfile.TemporaryDirectory() as folder:
        network = contestant(setup, data, Path(folder), edges.watch)
    assert edges.done == setup.steps, f"{edges.done} optimizer steps, not {setup.steps}"
    return sum(float(parameter.detach().double().abs().sum()) for parameter in network.parameters())


def seconds_per_step(name: str, setup: Setup, data: Data) -> tuple[float, float]:
    """Of one run, and its weights."""
    moments: list[float] = []
    edges = Edges(setup, *[lambda: moments.append(time.perf_counter())] * 2)
    weights = one_run(CONTESTANTS[name], setup, data, edges)
    begin, end = moments
    return (end - begin) / (setup.steps - setup.warm_up), weights


def warned_waits(name: str, setup: Setup, data: Data) -> list[str]:
    """What torch itself calls a synchronization, of all counted steps (`torch.cuda.set_sync_debug_mode`)."""
    edges = Edges(
        setup,
        lambda: torch.cuda.set_sync_debug_mode("warn"),
        lambda: torch.cuda.set_sync_debug_mode("default"),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        one_run(CONTESTANTS[name], setup, data, edges)
    return [f"{item.filename}:{item.lineno}" for item in caught if WARNING in str(item.message)]


def traced_waits(name: str, setup: Setup, data: Data) -> dict[str, int]:
    """Calls of the CUDA runtime that wait, of all counted steps, as the profiler saw them; it makes some itself."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    profiler = torch.profiler.profile(activities=activities)
    one_run(CONTESTANTS[name], setup, data, Edges(setup, profiler.start, profiler.stop))
    return {item.key: item.count for item in profiler.key_averages() if item.key in WAITS}


@contextmanager
def vocabulary(size: int) -> Iterator[None]:
    """The built-in model reads bytes; here its tables are as large as those of GPT-2."""
    load = trainer.data.load
    trainer.data.load = lambda options: replace(load(options), outputs=size)
    try:
        yield
    finally:
        trainer.data.load = load


def flops_per_token(network: nn.Module, setup: Setup) -> float:
    """Operations of a forward and a backward pass, per token.

    6 N + 12 L H Q T (PaLM, arXiv:2204.02311, appendix B; nanoGPT counts the same way): N are the weights that are
    multiplied with, so without the two tables that are looked up in; of L layers with H heads of width Q each, every
    token attends to T others. What is computed twice would not count; that attention is causal does not count either.
    """
    tables = sum(item.weight.numel() for item in network.modules() if isinstance(item, nn.Embedding))
    multiplied = sum(parameter.numel() for parameter in network.parameters()) - tables
    return 6 * multiplied + 12 * setup.layers * setup.width * setup.context


def peak_flops() -> float | None:
    """What the GPU could do at best, where its data sheet is known here."""
    name = torch.cuda.get_device_name()
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


def rows(setup: Setup, data: Data) -> Iterator[str]:
    """A line of the table for each contestant, in turn measured over some rounds; the first round does not count."""
    with torch.device("meta"):
        flops = flops_per_token(model.build(setup.options(), data), setup)
    chance, taken, weights = random.Random(0), {name: [] for name in CONTESTANTS}, {}
    for turn in range(setup.rounds + 1):
        for name in chance.sample(list(CONTESTANTS), len(CONTESTANTS)):
            seconds, weights[name] = seconds_per_step(name, setup, data)
            if turn:
                taken[name].append(seconds)
    first, second = weights.values()
    bare = next(iter(taken.values()))
    for name, runs in taken.items():
        each, tokens = statistics.median(runs), setup.batch * setup.context
        times = statistics.median(own / hand for own, hand in zip(runs, bare, strict=True))
        cells = [f"{1000 * each:.2f}", f"{1000 * min(runs):.2f} to {1000 * max(runs):.2f}", f"{times:.3f}"]
        cells.append(f"{tokens / each:,.0f}")
        if setup.device == "cuda":
            peak = peak_flops()
            cells.append("?" if peak is None else f"{flops * tokens / each / peak:.1%}")
            cells += waits(name, setup, data)
        yield f"| {name}{', compiled' if setup.compile else ''} | " + " | ".join(cells) + " |"
    yield f"| *weights apart by* | {abs(first / second - 1):.1g} |"


def waits(name: str, setup: Setup, data: Data) -> list[str]:
    """Per step, as torch tells it and as the profiler does."""
    counted = setup.steps - setup.warm_up
    warned, traced = warned_waits(name, setup, data), traced_waits(name, setup, data)
    for place in sorted(set(warned)):
        print(f"{name}: waits at {place}", file=sys.stderr)
    inside = ", ".join(f"{call} {count}" for call, count in traced.items())
    return [f"{len(warned) / counted:.2f}", f"{inside or 'none'} in {counted} steps"]


def report(setups: tuple[Setup, ...] = (EAGER, COMPILED)) -> str:
    """The section of the result."""
    one = setups[0]
    with vocabulary(one.vocabulary):
        data = trainer.data.load(one.options())
        lines = [line for setup in setups for line in rows(setup, data)]
    where = torch.cuda.get_device_name() if one.device == "cuda" else "the CPU"
    shape = f"{one.layers} layers, {one.heads} heads, width {one.width}, context {one.context}"
    return "\n".join(
        [
            "",
            f"## On {where}",
            "",
            f"{shape}, {one.vocabulary:,} tokens, batches of {one.batch}, {one.precision}; the loops in turn,",
            f"{one.rounds} rounds of {one.steps} steps, of which the first {one.warm_up} do not count. MFU: operations",
            "of the model (6 N + 12 L H Q T per token: PaLM, appendix B) over the dense bf16 peak of the data sheet.",
            "",
            "| loop | step, ms | range | times by hand | tokens/s | MFU | waits per step (torch) | waits (profiler) |",
            "|---|---|---|---|---|---|---|---|",
            *lines,
            "",
            f"torch {torch.__version__}, CUDA {torch.version.cuda}.",
            "",
        ]
    )


if __name__ == "__main__":
    print(report((SMOKE,) if "--smoke" in sys.argv else (EAGER, COMPILED)))
