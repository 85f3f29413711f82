"""The state of an optimizer by the names of parameters, so that it fits whatever number of processes goes on with it.

The format is that of torch's distributed checkpoints, which sharded runs write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from trainer.optim.lion import Lion
from trainer.optim.several import Several

State = dict[str, Any]


def by_name(model: nn.Module, optimizer: Optimizer | Several) -> State:
    """The state of an optimizer over parameters of `model`."""
    if isinstance(optimizer, Several):
        return {"several": [by_name(model, one) for one in optimizer.optimizers]}
    state, names = optimizer.state_dict(), _names(model, optimizer)
    return {
        "state": {names[number]: value for number, value in state["state"].items()},
        "param_groups": [
            {**group, "params": [names[number] for number in group["params"]]} for group in _groups(state)
        ],
    }


def load(model: nn.Module, optimizer: Optimizer | Several, saved: State) -> None:
    """Has an optimizer go on from a state by names; its rates, decay and groups stay its own.

    Raises:
        ValueError: the state is of another kind of optimizer, or of other parameters.
    """
    if isinstance(optimizer, Several) != ("several" in saved):
        raise ValueError("the state is of another kind of optimizer")
    if isinstance(optimizer, Several):
        for one, part in zip(optimizer.optimizers, saved["several"], strict=True):
            load(model, one, part)
        optimizer.regroup()
        return
    names = _names(model, optimizer)
    _check(dict(model.named_parameters()), names, optimizer, saved)
    state = {number: saved["state"][name] for number, name in enumerate(names) if name in saved["state"]}
    optimizer.load_state_dict({"state": state, "param_groups": _groups(optimizer.state_dict())})


def _check(parameters: Mapping[str, nn.Parameter], names: list[str], optimizer: Optimizer, saved: State) -> None:
    """Sees that a state can be gone on from.

    Raises:
        ValueError: it cannot; a wrong one would fail at a later step, or move the wrong weights.
    """
    theirs = {name for group in saved["param_groups"] for name in group["params"]}
    if theirs != set(names):
        raise ValueError(f"the state is of other parameters: {', '.join(sorted(theirs ^ set(names))[:3])}, …")
    for name, memory in saved["state"].items():
        if memory.keys() & _MEMORIES != _remembered(optimizer):
            raise ValueError("the state is of another kind of optimizer")
        for value in memory.values():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameters[name].shape:
                raise ValueError(f"the state of {name} has the shape {tuple(value.shape)}")


_MEMORIES = {"step", "exp_avg", "exp_avg_sq", "momentum_buffer"}


def _remembered(optimizer: Optimizer) -> set[str]:
    """Which of these an optimizer keeps for each parameter that has moved."""
    if isinstance(optimizer, Adam | AdamW):
        return {"step", "exp_avg", "exp_avg_sq"}
    if isinstance(optimizer, Lion):
        return {"exp_avg"}
    return {"momentum_buffer"} if optimizer.defaults["momentum"] else set()


def _names(model: nn.Module, optimizer: Optimizer) -> list[str]:
    """The names of an optimizer's parameters in the order of their numbers."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [known[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _groups(state: State) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = state["param_groups"]
    return groups
