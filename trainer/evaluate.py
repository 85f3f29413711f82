"""How good a model is on samples that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from trainer import modes
from trainer.data import Samples
from trainer.model import Ask
from trainer.precision import Precision
from trainer.scores import scores
from trainer.tasks import Sums, Task


class Reduce(Protocol):
    """Adds up what every rank has found."""

    rank: int
    world: int

    def total(self, sums: Sums) -> Sums: ...

    def gathered(self, values: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Evaluator:
    """Everything that an evaluation needs but the model; it knows nothing of the training."""

    task: Task
    ask: Ask
    precision: Precision
    device: torch.device
    ranks: Reduce
    batch_size: int
    metrics: tuple[str, ...] = ()
    """Of scikit-learn, beyond the task's own."""

    def __call__(
        self, model: nn.Module, samples: Samples, prefix: str, *, batches: int | None = None
    ) -> dict[str, float]:
        """Loss and metrics over the first `batches` batches, or over all; `model` comes back in the mode it was in.

        Returns:
            By name, after `prefix`. What is undefined is not in it; what is not finite is.
        """
        count = len(samples) if batches is None else min(len(samples), batches * self.batch_size)
        answers: list[tuple[Tensor, Tensor]] = []
        sums: Sums = {}
        with torch.no_grad(), modes.kept(model):
            model.eval()
            for numbers in self._mine(count):
                found, answer = self._batch(model, samples, numbers)
                sums = {name: sums[name] + value for name, value in found.items()} if sums else found
                if self.metrics:
                    answers.append(answer)
        totals = {name: value.item() for name, value in self.ranks.total(sums).items()}
        own = self.task.metrics(totals) | {"loss": totals["loss"] / totals["samples"]}
        more = self._scores(answers) if self.metrics else {}
        return {
            f"{prefix}{name}": value for name, value in sorted((own | more).items(), key=lambda item: item[0] != "loss")
        }

    def _mine(self, count: int) -> Iterator[Tensor]:
        """This rank's part of each batch; at least one batch on each, so that all take part in every sum."""
        for part in torch.split(torch.arange(count), self.batch_size):
            yield part[self.ranks.rank :: self.ranks.world]

    def _batch(self, model: nn.Module, samples: Samples, numbers: Tensor) -> tuple[Sums, tuple[Tensor, Tensor]]:
        empty = len(numbers) == 0  # of the last batch, where there are more ranks than samples in it
        inputs, targets = (
            item.to(self.device) for item in samples.batch(numbers if not empty else torch.zeros(1).long())
        )
        with self.precision.autocast():
            logits, _ = self.ask(model, inputs, targets)
        if empty:
            logits, targets = logits[:0], targets[:0]
        counted = torch.tensor(float(len(targets)), device=self.device)
        found = {"loss": self.task.losses(logits, targets).sum(), "samples": counted, **self.task.sums(logits, targets)}
        return found, (logits.float().cpu(), targets.cpu())

    def _scores(self, answers: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        logits, targets = (self.ranks.gathered(torch.cat(parts)) for parts in zip(*answers, strict=True))
        return scores(self.metrics, logits, targets)
