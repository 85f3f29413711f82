"""The models by name, and what every model gives: logits, and a loss of its own where it has one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from trainer import spec
from trainer.data import Data
from trainer.errors import SpecError, listed
from trainer.model.cnn import Convolutions
from trainer.model.gpt import GPT
from trainer.model.lora import UPDATES, adapt
from trainer.model.mlp import Perceptron
from trainer.named import load, raised
from trainer.spec.model import Cnn, Gpt, Lora, Mlp


def build(options: spec.Spec, data: Data) -> nn.Module:
    """The model that the spec names, as wide as the data, with a LoRA where the spec wants one.

    Raises:
        SpecError: it does not take such data, or names code that there is not.
    """
    model = _build(options, data)
    if options.lora is not None:
        adapt(model, options.lora)
    return model


def _build(options: spec.Spec, data: Data) -> nn.Module:
    chosen = options.model
    match chosen:
        case Gpt():
            _fits(chosen.kind, data, text=True)
            return GPT(chosen, data.outputs)
        case Mlp():
            _fits(chosen.kind, data)
            return Perceptron(chosen, data.inputs, data.outputs)
        case Cnn():
            _fits(chosen.kind, data, dimensions=3)
            return Convolutions(chosen, data.inputs, data.outputs)
    made = load(chosen.kind, "model.kind")
    try:
        model = made(**chosen.options)
    except Exception as error:  # whatever somebody's own code raises is a fault of the spec here
        raise SpecError(f"model.kind = {chosen.kind!r} with {chosen.options}: {raised(error)}") from error
    if not isinstance(model, nn.Module):
        raise SpecError(f"model.kind = {chosen.kind!r}: gives {type(model).__name__}, not a torch.nn.Module")
    return _settled(model, chosen.kind)


_FROZEN = "frozen_by_its_author"
"""The attribute of a model with the names of what it does not want to be trained."""


def _settled(model: nn.Module, kind: str) -> nn.Module:
    """Somebody's model, with a memory of what it has frozen itself: `freeze` sets `requires_grad` again and again.

    Raises:
        SpecError: a layer does not know its shape yet.
    """
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise SpecError(f"model.kind = {kind!r}: {name} has no shape yet; call a lazy layer once in __init__")
    frozen = frozenset(name for name, parameter in model.named_parameters() if not parameter.requires_grad)
    object.__setattr__(model, _FROZEN, frozen)
    return model


def _fits(kind: str, data: Data, *, text: bool = False, dimensions: int | None = None) -> None:
    if data.text is not text:
        wanted = "text" if text else "numbers"
        raise SpecError(f"model.kind = {kind!r}: learns from {wanted}, and data.kind gives {_shape(data)}")
    if dimensions is not None and len(data.inputs) != dimensions:
        raise SpecError(f"model.kind = {kind!r}: learns from channels x height x width; the data gives {_shape(data)}")
    if not data.outputs:
        raise SpecError(
            f"model.kind = {kind!r}: your own data does not say how many classes or values to predict; "
            "give data.outputs, or take a model of your own as package.module:Net"
        )


def _shape(data: Data) -> str:
    return "text" if data.text else f"numbers ({' x '.join(map(str, data.inputs))})"


def freeze(model: nn.Module, lora: Lora | None, patterns: tuple[str, ...]) -> None:
    """Has exactly those parameters learn that are to: of a LoRA its updates alone, and those that match a pattern.

    What a model of your own has frozen itself stays so, unless a pattern names it.

    Raises:
        SpecError: nothing is left to train.
    """
    free = [name for name, _ in model.named_parameters() if lora is None or name.rpartition(".")[2] in UPDATES]
    frozen: frozenset[str] = getattr(model, _FROZEN, frozenset())
    if patterns:
        wanted = {name for name in free if any(re.search(pattern, name) for pattern in patterns)}
    else:
        wanted = set(free) - frozen
    if not free:
        raise SpecError("model: has no parameters, so there is nothing to train")
    if not wanted and not patterns:
        raise SpecError("model: all its parameters have requires_grad = False; name those to train in train.trainable")
    if not wanted:
        raise SpecError(f"train.trainable = {', '.join(patterns)}: leaves nothing to train; there are {listed(free)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted)


Answer = tuple[Tensor, Tensor | None]
Ask = Callable[[nn.Module, Tensor, Tensor], Answer]


def asked(model: nn.Module) -> Ask:
    """How a model is asked for its logits, and its own loss or None: with the targets, if it takes any."""
    with_targets = "targets" in inspect.signature(model.forward).parameters

    def ask(forward: nn.Module, inputs: Tensor, targets: Tensor) -> Answer:
        found: Any = forward(inputs, targets=targets) if with_targets else forward(inputs)
        if isinstance(found, Tensor):
            return found, None
        get = found.get if isinstance(found, Mapping) else partial(getattr, found)
        logits = get("logits", None)
        if not isinstance(logits, Tensor):
            what = f"{type(found).__name__} without logits that are a tensor"
            raise SpecError(
                f"model.kind: forward gives a {what}; wanted is a tensor, or a mapping or object with logits"
            )
        return logits, get("loss", None)

    return ask
