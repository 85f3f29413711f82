"""What our training loop adds to a step, beside a loop written by hand, Lightning and Hugging Face's Trainer.

All train the same model on the same windows of text in the same order, with the same optimizer, clipping and schedule;
that they arrive at the same weights is checked. The loop by hand logs nothing; the others log every step.

Each contestant is compared with the loop by hand in lockstep: both train in one process, and after each step the one
waits while the other makes its own, so that whatever slows the machine down slows them both. A step is timed from the
begin of one forward pass to the begin of the next, by the same hook in both models; the loop by hand against itself is
the control. That is done in several processes: where in memory a process happens to put things makes some percent of
difference. With a GPU, `trainer_speed_gpu.py` follows.

Usage: python tests/bench/trainer_speed.py [PROCESSES]
"""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import itertools
import json
import logging
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also from a checkout that was never installed
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from latency import machine
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from trainer import data, model, spec
from trainer.checkpoints import randomness
from trainer.data import Data
from trainer.data.order import Order
from trainer.log import RunLog
from trainer.loop import train
from trainer.run import Run

RESULT = Path(__file__).parent / "results" / "trainer_speed.md"
PROCESSES = 4
ROUNDS = 4
WARM_UP = 20
"""Steps at the begin of each run that do not count."""
PEAK, WARM, FINAL = 1e-3, 10, 0.1
"""The schedule: a rate that rises for some steps, then falls as a cosine to a share of its peak."""
CLIP, DECAY, BETAS, SEED = 1.0, 0.1, (0.9, 0.95), 1


Watch = Callable[[nn.Module], object]
"""Puts the hook into a model."""


class Workload(NamedTuple):
    """A size of a model and of a run."""

    name: str
    layers: int
    width: int
    context: int
    batch: int
    steps: int

    def options(self) -> spec.Spec:
        """As somebody would write it down for `trainer run`, with nothing but steps in the run."""
        return spec.build(
            {
                "seed": SEED,
                "device": "cpu",
                "model": {"layers": self.layers, "heads": 4, "width": self.width, "context": self.context},
                "data": {"max_bytes": 1_000_000},
                "optimizer": {"kind": "adamw", "lr": PEAK, "betas": list(BETAS), "weight_decay": DECAY},
                "schedule": {"kind": "cosine", "warmup_steps": WARM, "final_lr_ratio": FINAL},
                "train": {
                    "steps": self.steps,
                    "batch_size": self.batch,
                    "clip_norm": CLIP,
                    "eval_every": 0,
                    "checkpoint_every": 0,
                },
            },
            where=self.name,
        )


WORKLOADS = [
    Workload("a tiny model", layers=1, width=16, context=16, batch=4, steps=220),
    Workload("a step of 10 ms", layers=2, width=64, context=64, batch=8, steps=70),
]


class Task(NamedTuple):
    """What every contestant is given: the model as it begins, with its hook, and where the data is."""

    work: Workload
    options: spec.Spec
    data: Data
    order: Tensor
    folder: Path
    network: nn.Module


# ------------------------------------------------------------------------------------------------- the contestants


def ours(task: Task, watch: Watch) -> nn.Module:
    """As `trainer run` does it, in a folder that is there; the last step saves a checkpoint, which is not timed."""
    run = Run(task.options)
    watch(run.model)
    with RunLog(task.folder, total_steps=run.total_steps) as log:
        run.start(task.folder, log, {})
        train(run)
    return run.model


def by_hand(task: Task, watch: Watch) -> nn.Module:
    """The least that trains."""
    network, text, context = task.network, task.data.train.text, task.work.context
    watch(network)
    optimizer = adamw(network)
    offsets = torch.arange(context + 1)
    for step, windows in enumerate(torch.split(task.order, task.work.batch), 1):
        for group in optimizer.param_groups:
            group["lr"] = PEAK * share_of_peak(step, task.work.steps)
        tokens = text[windows[:, None] * context + offsets].long()
        loss = loss_of(network, tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return network


def lightning(task: Task, watch: Watch) -> nn.Module:
    """CSVLogger, every step logged: loss, norm of the gradient, and the rate by its own monitor."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = task.network

        def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
            loss = loss_of(self.network, *batch)
            self.log("train_loss", loss)
            return loss

        def configure_gradient_clipping(self, *_given: Any, **_more: Any) -> None:
            self.log("grad_norm", nn.utils.clip_grad_norm_(self.parameters(), CLIP))

        def configure_optimizers(self) -> Any:
            optimizer = adamw(self)
            return [optimizer], [{"scheduler": schedule(optimizer, task.work.steps), "interval": "step"}]

    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=task.work.steps,
        logger=CSVLogger(task.folder),
        log_every_n_steps=1,
        callbacks=[LearningRateMonitor(logging_interval="step")],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    watch(task.network)
    trainer.fit(Module(), batches(task))
    return task.network


def hugging_face(task: Task, watch: Watch) -> nn.Module:
    """Its Trainer, every step logged into its own state: loss, norm of the gradient and rate; nothing on disk."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = task.network

        def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": loss_of(self.network, input_ids, labels)}

    class Ordered(Trainer):
        def get_train_dataloader(self) -> Any:
            return batches(task, named=True)

    arguments = TrainingArguments(
        output_dir=str(task.folder),
        use_cpu=True,
        max_steps=task.work.steps,
        per_device_train_batch_size=task.work.batch,
        max_grad_norm=CLIP,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    wrapped = Wrapped()
    optimizer = adamw(wrapped)
    trainer = Ordered(
        model=wrapped,
        args=arguments,
        train_dataset=Windows(task),
        optimizers=(optimizer, schedule(optimizer, task.work.steps)),
    )
    trainer.remove_callback(PrinterCallback)
    watch(task.network)
    trainer.train()
    assert len(trainer.state.log_history) >= task.work.steps
    return task.network


Contestant = Callable[[Task, Watch], nn.Module]

CONTESTANTS: dict[str, tuple[str | None, Contestant]] = {
    "the same by hand, as a control": (None, by_hand),
    "`trainer run`": (None, ours),
    "Lightning, CSVLogger": ("lightning", lightning),
    "Hugging Face Trainer": ("transformers", hugging_face),
}


# ------------------------------------------------------------------------------------ what is the same for all of them


def loss_of(network: nn.Module, tokens: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(network(tokens).flatten(0, 1).float(), targets.flatten())


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    weights = list(network.parameters())
    groups = [
        {"params": [item for item in weights if item.ndim >= 2], "weight_decay": DECAY},
        {"params": [item for item in weights if item.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, fused=True)


def share_of_peak(step: int, steps: int) -> float:
    """The learning rate of a step, the first being 1, as a share of its peak."""
    if step <= WARM:
        return step / WARM
    left = (1 + math.cos(math.pi * (step - WARM) / (steps - WARM))) / 2
    return FINAL + (1 - FINAL) * left


def schedule(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: share_of_peak(done + 1, steps))


class Windows(Dataset[Any]):
    """The text as a data set that serves a whole batch at once, the fastest way that a DataLoader knows."""

    def __init__(self, task: Task) -> None:
        self.text, self.context = task.data.train.text, task.work.context
        self.offsets = torch.arange(self.context + 1)

    def __len__(self) -> int:
        return (len(self.text) - 1) // self.context

    def __getitems__(self, indices: list[int]) -> Tensor:
        return self.text[torch.tensor(indices)[:, None] * self.context + self.offsets].long()


def batches(task: Task, *, named: bool = False) -> DataLoader[Any]:
    def collate(tokens: Tensor) -> Any:
        pair = tokens[:, :-1], tokens[:, 1:]
        return dict(zip(("input_ids", "labels"), pair, strict=True)) if named else pair

    order = task.order.tolist()
    return DataLoader(Windows(task), batch_size=task.work.batch, sampler=order, collate_fn=collate)


def tasks(work: Workload, root: Path) -> Iterator[Task]:
    """The same task again and again, each in a folder of its own."""
    options = work.options()
    found = data.load(options)
    # The order of our first epoch; were it another one, the weights at the end would tell.
    order = Order(len(found.train), f"epoch 0 of seed {SEED}").numbers(0, work.batch * work.steps)
    for number in itertools.count():
        folder = root / f"{work.steps}-{number}"
        folder.mkdir()
        randomness.seed_everything(SEED)
        yield Task(work, options, found, order, folder, model.build(options, found))


# ------------------------------------------------------------------------------------------------- the measurement


class Block(NamedTuple):
    """Two runs in lockstep: microseconds of each step by hand and of each of the contestant's; do the weights agree?"""

    by_hand: list[float]
    own: list[float]
    apart: float


class Lockstep:
    """Lets two runs, each on a thread of its own, make one step in turn, and times every step."""

    def __init__(self) -> None:
        self.periods: tuple[list[int], list[int]] = ([], [])
        self._turns = (threading.Lock(), threading.Lock())
        self._began = [0, 0]
        for turn in self._turns:
            turn.acquire()

    def watch(self, side: int) -> Watch:
        """A function that puts the hook into the model of one side."""

        def hook(*_: object) -> None:
            now = time.perf_counter_ns()
            if self._began[side]:
                self.periods[side].append(now - self._began[side])
            self.pass_on(side)
            self.wait(side)
            self._began[side] = time.perf_counter_ns()

        return lambda network: network.register_forward_pre_hook(hook)

    def pass_on(self, side: int) -> None:
        self._turns[1 - side].release()

    def wait(self, side: int) -> None:
        self._turns[side].acquire()


def weights_of(network: nn.Module) -> float:
    return sum(float(parameter.detach().double().abs().sum()) for parameter in network.parameters())


def one_block(contestant: Contestant, hand_task: Task, own_task: Task) -> Block:
    """Both runs on threads made for them: on the main one memory is served differently, which makes percents."""
    both, weights = Lockstep(), [0.0, 0.0]

    def run(side: int, loop: Contestant, task: Task) -> None:
        both.wait(side)
        try:
            weights[side] = weights_of(loop(task, both.watch(side)))
        finally:
            both.pass_on(side)

    gc.collect()  # what earlier runs left behind is not for this one to pay
    threads = [
        threading.Thread(target=run, args=(side, loop, task))
        for side, (loop, task) in enumerate([(by_hand, hand_task), (contestant, own_task)])
    ]
    for thread in threads:
        thread.start()
    both.pass_on(1)
    for thread in threads:
        thread.join()
    hand, own = ([nanos / 1000 for nanos in periods[WARM_UP:]] for periods in both.periods)
    assert len(hand) == len(own) == own_task.work.steps - 1 - WARM_UP, "one forward pass per step, no more"
    return Block(hand, own, abs(weights[1] / weights[0] - 1))


Blocks = dict[str, list[Block]]


def session(seed: int) -> dict[str, Blocks]:
    """All rounds of one process, by workload and contestant; the first round warms up and does not count."""
    quiet()
    chance = random.Random(seed)
    here = {name: run for name, (package, run) in CONTESTANTS.items() if installed(package)}
    found: dict[str, Blocks] = {}
    with tempfile.TemporaryDirectory() as place:
        for work in WORKLOADS:
            each = tasks(work, Path(place))
            blocks: Blocks = {name: [] for name in here}
            for turn in range(ROUNDS + 1):
                for name in chance.sample(list(here), len(here)):
                    block = one_block(here[name], next(each), next(each))
                    assert block.apart < 1e-4, f"{name} has trained something else: weights {block.apart:.2g} apart"
                    if turn:
                        blocks[name].append(block)
            found[work.name] = blocks
    return found


def quiet() -> None:
    """One thread, and nobody prints: what they say goes beyond a training's own rows."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


def installed(package: str | None) -> bool:
    return package is None or importlib.util.find_spec(package) is not None


Sessions = list[dict[str, Blocks]]


def in_a_process(seed: int) -> dict[str, Blocks]:
    """A session in a new process."""
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer.json"
        command = [sys.executable, __file__, "--session", str(seed), str(answer)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = json.loads(answer.read_text())
    return {
        work: {name: [Block(*block) for block in blocks] for name, blocks in contestants.items()}
        for work, contestants in found.items()
    }


def steps(blocks: list[Block]) -> list[tuple[float, float]]:
    """Every step by hand beside the contestant's that came right after it."""
    return [pair for block in blocks for pair in zip(block.by_hand, block.own, strict=True)]


def table(work: str, sessions: Sessions) -> Iterator[str]:
    """A row per contestant."""
    yield f"## {work[0].upper()}{work[1:]}"
    yield ""
    yield "| loop | version | by hand, µs | step, µs | added, µs | range | on average | times by hand | range |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, (package, _) in CONTESTANTS.items():
        if name not in sessions[0][work]:
            yield f"| {name} | not installed | | | | | | | |"
            continue
        pairs = [steps(found[work][name]) for found in sessions]
        hand, own = (statistics.median(pair[side] for each in pairs for pair in each) for side in (0, 1))
        added = [statistics.median(own - hand for hand, own in each) for each in pairs]
        mean = statistics.median(statistics.fmean(own - hand for hand, own in each) for each in pairs)
        times = [statistics.median(own / hand for hand, own in each) for each in pairs]
        version = "" if package is None else importlib.metadata.version(package)
        yield (
            f"| {name} | {version} | {hand:.0f} | {own:.0f} | {statistics.median(added):.1f} "
            f"| {min(added):.1f} to {max(added):.1f} | {mean:.1f} "
            f"| {statistics.median(times):.3f} | {min(times):.3f} to {max(times):.3f} |"
        )
    yield ""


def report(sessions: Sessions) -> str:
    apart = max(block.apart for found in sessions for each in found.values() for own in each.values() for block in own)
    return "\n".join(
        [
            "# What the training loop adds to a step",
            "",
            "The same byte-level GPT, text, order, AdamW, clipping and cosine schedule, on one thread, beside a loop",
            "by hand that logs nothing. Ours and Lightning write loss, gradient norm and learning rate of every step",
            "to disk, Hugging Face's Trainer keeps them in its state. Each makes its steps in turn with the loop by",
            f"hand, in the same process: {len(sessions)} processes, {ROUNDS} runs in each. *Added* and *times* compare",
            "each step with the one by hand right before it: the median over the processes of the median of all",
            "steps, and the range of the processes. *On average* is what the mean says, rare pauses included.",
            "",
            *(line for work in WORKLOADS for line in table(work.name, sessions)),
            f"All arrive at the weights of the loop by hand (largest difference: {apart:.1g}).",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}. {machine()}, torch {torch.__version__}. Made by `make bench-trainer`.",
            "",
        ]
    )


def main() -> None:
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else PROCESSES
    text = report([in_a_process(seed) for seed in range(processes)])
    if torch.cuda.is_available():
        import trainer_speed_gpu

        text += trainer_speed_gpu.report()
    print(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--session"]:
        Path(sys.argv[3]).write_text(json.dumps(session(int(sys.argv[2]))))
    else:
        main()
