"""A run of one process, which has nobody to ask."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from contract import Kill
from trainer import spec
from trainer.optim import Moves, named_state

State = dict[str, Any]
Result = TypeVar("Result")


class Alone:
    """One process; what several do together, it does by itself."""

    rank = 0
    world = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    def device(self, chosen: torch.device) -> torch.device:
        """The device of this process, where the spec has chosen `chosen`."""
        return chosen

    def placed(self, model: nn.Module) -> nn.Module:
        """The model with its parameters where they belong, before an optimizer knows them."""
        return model

    def shared(self, model: nn.Module, options: spec.Spec) -> nn.Module:
        """The model as it is called in training; asked for anew whenever other parameters learn."""
        return torch.compile(model) if options.train.compile else model  # type: ignore[return-value]

    def accumulating(self, _forward: nn.Module, *, last: bool) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Around one micro-batch: gradients need to be exchanged after the last one only."""
        return nullcontext()

    def alike(self, model: nn.Module) -> None:
        """Has all processes see the same model: statistics of a batch norm are each one's own until then."""

    def total(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each value added up over all processes."""
        return sums

    def gathered(self, values: Tensor) -> Tensor:
        """The rows of all processes, one after the other."""
        return values

    def agreed(self, ask: Callable[[int], Kill | None], step: int) -> Kill | None:
        """What `ask` says, the same on all processes and at the same step."""
        return ask(step)

    def whole(self, value: Tensor) -> Tensor:
        """A value that may be known in parts only, one on each process."""
        return value

    def all_true(self, flag: Tensor) -> bool:
        """Whether `flag` is true on every process."""
        return bool(flag)

    def model_state(self, model: nn.Module) -> State:
        """All weights, whole, on the process that leads."""
        return model.state_dict()

    def optimizer_state(self, model: nn.Module, optimizer: Moves) -> State:
        """All of the optimizer's state, whole and by the names of parameters, on the process that leads."""
        return named_state.by_name(model, optimizer)

    def load_model(self, model: nn.Module, state: State) -> None:
        model.load_state_dict(state)

    def load_optimizer(self, model: nn.Module, optimizer: Moves, state: State) -> None:
        named_state.load(model, optimizer, state)

    def lead(self, job: Callable[[], Result]) -> Result:
        """What `job` gives on the process that leads, on all of them.

        Raises:
            SpecError: the job did.
        """
        return job()

    def every(self, value: Any) -> list[Any]:
        """The value of each process, in the order of their ranks."""
        return [value]

    def close(self) -> None:
        """Leaves the others."""


ALONE = Alone()
