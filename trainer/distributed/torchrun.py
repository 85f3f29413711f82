"""Several processes, as torchrun has started them: they share each micro-batch and agree on everything else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from contract import Kill
from trainer import spec
from trainer.distributed.alone import Alone, State
from trainer.errors import SpecError
from trainer.model.gpt import GPT
from trainer.optim import Moves
from trainer.pace import Pace

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)

Result = TypeVar("Result")


class Torchrun(Alone):
    """The processes of one launch; every method is called by all of them, in the same order.

    Raises:
        SpecError: the spec asks for what several processes cannot do, or the others are not there.
    """

    def __init__(self, options: spec.Spec) -> None:
        _check(options)
        self.options = options.distributed
        self._sharded = options.distributed.strategy == "fsdp"
        self._local = int(os.environ.get("LOCAL_RANK", "0"))
        on_gpus = options.device != "cpu" and torch.cuda.is_available()
        if on_gpus:
            _take_gpu(self._local)
        backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
        try:
            dist.init_process_group(backend, timeout=timedelta(seconds=self.options.timeout_seconds))
        except (ValueError, RuntimeError) as error:  # a variable is missing, or nobody answers
            world = os.environ.get("WORLD_SIZE")
            raise SpecError(
                f"the {world} processes of this launch do not meet; start them with torchrun ({error})"
            ) from None
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._pace = Pace()
        if self.rank:
            _leave_stopping_to_the_first()

    def device(self, chosen: torch.device) -> torch.device:
        return torch.device("cuda", self._local) if chosen.type == "cuda" else chosen

    def placed(self, model: nn.Module) -> nn.Module:
        if not self._sharded:
            return model
        if not isinstance(model, GPT):
            raise SpecError("distributed.strategy = 'fsdp': shards a model of kind gpt; for others take ddp")
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        return model

    def shared(self, model: nn.Module, options: spec.Spec) -> nn.Module:
        if self._sharded:
            return super().shared(model, options)
        ids = [self._local] if next(model.parameters()).device.type == "cuda" else None
        return super().shared(DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True), options)

    def accumulating(self, forward: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        if isinstance(forward, FSDPModule):
            forward.set_requires_gradient_sync(last)
            return nullcontext()
        held: AbstractContextManager[Any] = nullcontext() if last else forward.no_sync()  # type: ignore[operator]
        return held

    def alike(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)

    def total(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        added = torch.stack([value.detach().double() for value in sums.values()])  # counts of bytes outgrow float32
        dist.all_reduce(added)
        return dict(zip(sums, added.unbind(), strict=True))

    def gathered(self, values: Tensor) -> Tensor:
        return torch.cat(self.every(values))

    def agreed(self, ask: Callable[[int], Kill | None], step: int) -> Kill | None:
        if not self._pace.due(step):
            return None
        told: list[Any] = [None, 0]
        if self.leads:
            kill = ask(step)
            told = [kill and asdict(kill), self._pace.next(step)]
        dist.broadcast_object_list(told, src=0)
        self._pace.agree(told[1])
        return None if told[0] is None else Kill(**told[0])

    def whole(self, value: Tensor) -> Tensor:
        return value.full_tensor() if isinstance(value, DTensor) else value

    def all_true(self, flag: Tensor) -> bool:
        found = flag.float()
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return bool(found)

    def model_state(self, model: nn.Module) -> State:
        return get_model_state_dict(model, options=_WHOLE) if self._sharded else model.state_dict()

    def optimizer_state(self, model: nn.Module, optimizer: Moves) -> State:
        if not self._sharded:
            return super().optimizer_state(model, optimizer)
        assert isinstance(optimizer, Optimizer)
        return get_optimizer_state_dict(model, optimizer, options=_WHOLE)

    def load_model(self, model: nn.Module, state: State) -> None:
        if self._sharded:
            set_model_state_dict(model, state, options=_WHOLE)
        else:
            model.load_state_dict(state)

    def load_optimizer(self, model: nn.Module, optimizer: Moves, state: State) -> None:
        if not self._sharded:
            super().load_optimizer(model, optimizer, state)
            return
        assert isinstance(optimizer, Optimizer)
        set_optimizer_state_dict(model, optimizer, state, options=_WHOLE)

    def lead(self, job: Callable[[], Result]) -> Result:
        told: list[Any] = [None, None]
        if self.leads:
            try:
                told = [job(), None]
            except SpecError as error:
                told = [None, str(error)]
        dist.broadcast_object_list(told, src=0)
        if told[1] is not None:
            raise SpecError(told[1])
        found: Result = told[0]
        return found

    def every(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def close(self) -> None:
        dist.destroy_process_group()


def _leave_stopping_to_the_first() -> None:
    """The first rank answers signals for all: a launcher sends them to every rank, and all stop at the same step."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, _frame: signal.signal(number, signal.SIG_DFL))


def _take_gpu(local: int) -> None:
    """Makes the GPU of this process the one that torch means.

    Raises:
        SpecError: there are fewer than processes on this machine.
    """
    count = torch.cuda.device_count()
    if local >= count:
        what = f"torch sees {count}; start {count} at most, or give device=cpu"
        raise SpecError(f"process {local} here has no GPU: {what}")
    torch.cuda.set_device(local)


def _check(options: spec.Spec) -> None:
    if options.distributed.strategy != "fsdp":
        return
    for what, there in (("ema", options.ema is not None), ("muon", options.optimizer.kind == "muon")):
        if there:
            raise SpecError(f"distributed.strategy = 'fsdp': cannot be combined with {what}; take ddp")
