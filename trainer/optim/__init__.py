"""The optimizers by name, and which parameters are treated how."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.errors import SpecError, listed
from trainer.optim.lion import Lion
from trainer.optim.schedule import declared, learning_rate
from trainer.optim.several import Several
from trainer.spec.optimizer import Optimizer as Options

__all__ = ["Moves", "build", "clip", "declared", "learning_rate", "set_learning_rate"]

Moves = Optimizer | Several
Named = dict[str, nn.Parameter]
Groups = list[dict[str, Any]]


def build(model: nn.Module, options: Options) -> Moves:
    """The optimizer that the spec names, over all that `model` does not keep frozen for good.

    Raises:
        SpecError: this torch has no such optimizer, or a group matches no parameter.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    _check_groups(named, options)
    if options.kind == "muon":
        return _muon(model, named, options)
    return _plain(groups(named, options), options, named)


def _check_groups(named: Named, options: Options) -> None:
    """Sees that every group of the spec has parameters.

    Raises:
        SpecError: one matches none, or none that the groups before it have left.
    """
    left = list(named)
    for number, wanted in enumerate(options.groups):
        kept = [name for name in left if not re.search(wanted.match, name)]
        if len(kept) == len(left):
            what = f"optimizer.groups.{number}.match = {wanted.match!r}"
            raise SpecError(f"{what}: matches no parameter that is left; there are {listed(left)}")
        left = kept


def _plain(found: Groups, options: Options, named: Named) -> Optimizer:
    if options.kind == "sgd":
        return torch.optim.SGD(found, lr=options.lr, momentum=options.momentum)
    if options.kind == "lion":
        return Lion(found, lr=options.lr, betas=options.betas)
    make = torch.optim.Adam if options.kind == "adam" else torch.optim.AdamW
    # One kernel for all parameters: on CUDA always, on the CPU in every torch that this program accepts (2.6).
    fused = all(parameter.device.type in ("cuda", "cpu") for parameter in named.values())
    return make(found, lr=options.lr, betas=options.betas, fused=fused)


def _muon(model: nn.Module, named: Named, options: Options) -> Moves:
    """Muon for the matrices inside the model; AdamW for embeddings, the last layer and all vectors.

    Rates mean the same in both: updates are scaled to AdamW's root mean square (arXiv:2502.16982).
    """
    if not hasattr(torch.optim, "Muon"):
        raise SpecError(f"optimizer.kind = 'muon': torch {torch.__version__} has none; it comes with torch 2.9")
    inside = _inside(model, named)
    rest = {name: parameter for name, parameter in named.items() if name not in inside}
    if not inside:
        raise SpecError("optimizer.kind = 'muon': the model has no matrix inside; take adamw")
    muon = torch.optim.Muon(
        groups(inside, options), lr=options.lr, momentum=options.momentum, adjust_lr_fn="match_rms_adamw"
    )
    return Several(muon, _plain(groups(rest, options), options, rest)) if rest else muon


def _inside(model: nn.Module, named: Named) -> Named:
    """The weights of linear layers, without the last one, whose rows stand for classes."""
    layers = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return {name: named[name] for name in layers[:-1] if name in named}


def groups(named: Named, options: Options) -> Groups:
    """Parameter groups: those of the spec by name, then matrices, then everything else, which does not decay."""
    found: Groups = []
    left = dict(named)
    for wanted in options.groups:
        mine = {name: left.pop(name) for name in list(left) if re.search(wanted.match, name)}
        decay = options.weight_decay if wanted.weight_decay is None else wanted.weight_decay
        found += _by_shape(mine, decay, wanted.lr_scale, always=wanted.weight_decay is not None)
    return [group for group in (*found, *_by_shape(left, options.weight_decay, 1.0)) if group["params"]]


def _by_shape(named: Named, decay: float, scale: float, *, always: bool = False) -> Groups:
    """Decay pulls on matrices only, unless it was asked for these parameters by name."""
    matrices = [item for item in named.values() if item.ndim >= 2 or always]
    vectors = [item for item in named.values() if item.ndim < 2 and not always]
    return [
        {"params": matrices, "weight_decay": decay, "lr_scale": scale},
        {"params": vectors, "weight_decay": 0.0, "lr_scale": scale},
    ]


def set_learning_rate(optimizer: Moves, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def clip(weights: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Clips the gradients to a total norm of `limit` (0: not at all); returns the norm that they had before."""
    parameters = [parameter for parameter in weights if parameter.grad is not None]
    if limit > 0:
        return nn.utils.clip_grad_norm_(parameters, limit)
    return nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
