"""The state of an optimizer by the names of parameters, so that it fits whatever number of processes goes on with it.

The format is that of torch's distributed checkpoints, which sharded runs write.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

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
    """Has an optimizer go on from a state by names.

    Raises:
        KeyError: a parameter of it is none of the optimizer's.
        ValueError: it has other groups of parameters.
    """
    if isinstance(optimizer, Several):
        for one, part in zip(optimizer.optimizers, saved["several"], strict=True):
            load(model, one, part)
        optimizer.regroup()
        return
    numbers = {name: number for number, name in enumerate(_names(model, optimizer))}
    groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in saved["param_groups"]]
    state = {numbers[name]: value for name, value in saved["state"].items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _names(model: nn.Module, optimizer: Optimizer) -> list[str]:
    """The names of an optimizer's parameters in the order of their numbers."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [known[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _groups(state: State) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = state["param_groups"]
    return groups
