"""A run in several parts, each with settings of its own: pretrain, finetune, evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from trainer import optim, spec
from trainer.data import Data, Loader, Position
from trainer.errors import SpecError

CHANGEABLE = ("data", "loading", "optimizer", "schedule", "train", "curriculum", "mining", "frozen", "evaluate")
"""What a stage may set. Model, seed, metric and the rest belong to the whole run."""


class Leg(NamedTuple):
    """One stage, with the steps that it has of the whole run: after `first`, up to and with `last`."""

    name: str
    kind: str
    options: spec.Spec
    data: Data
    first: int
    last: int

    @property
    def steps(self) -> int:
        return self.last - self.first


def legs(options: spec.Spec, load: Callable[[spec.Spec], Data]) -> list[Leg]:
    """The parts of a run in their order; one where the spec names no stages.

    Raises:
        SpecError: a stage sets what it may not, or its data cannot be loaded.
    """
    if not options.stages:
        data = load(options)
        return [Leg("", "pretrain", options, data, 0, total_steps(options, data))]
    found: list[Leg] = []
    for stage in options.stages:
        own = _options(options, stage.name, stage.change)
        data = load(own)
        first = found[-1].last if found else 0
        steps = 0 if stage.kind == "eval" else total_steps(own, data)
        found.append(Leg(stage.name, stage.kind, own, data, first, first + steps))
    if found[-1].last == 0:
        raise SpecError("stages: none of them trains; to examine a checkpoint there is trainer eval")
    begin = next(leg for leg in found if leg.kind != "eval")
    if begin.kind == "finetune" and options.warm_start is None:
        raise SpecError(f"stages: {begin.name!r} is the first that trains: nothing to finetune; give warm_start")
    names = [leg.name for leg in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SpecError(f"stages: {twice[0]!r} is the name of {names.count(twice[0])}; each needs its own")
    return found


def _options(options: spec.Spec, name: str, change: dict[str, Any]) -> spec.Spec:
    for key in change:
        if key not in CHANGEABLE:
            raise SpecError(f"stages: {name!r} sets {key}; a stage may set {', '.join(CHANGEABLE)}")
    base = options.model_dump(mode="json", exclude={"stages"})
    return spec.checked(spec.Spec, spec.laid_over(base, change), f"stage {name!r}")


def total_steps(options: spec.Spec, data: Data) -> int:
    """How many optimizer steps the spec asks for, be it in steps or in epochs."""
    if options.train.steps:
        return options.train.steps
    return (options.train.epochs or 1) * Loader(data.train, options, Position()).groups_per_epoch


def declared(parts: Sequence[Leg]) -> dict[str, Any]:
    """The schedule of the whole run, as `experiment.json` tells it."""
    each = [
        optim.declared(leg.options.optimizer.lr, leg.options.schedule, leg.steps) for leg in parts if leg.kind != "eval"
    ]
    if len(each) == 1:
        return each[0]
    stages = [
        {"name": leg.name, "first_step": leg.first + 1, "last_step": leg.last, **one}
        for leg, one in zip((leg for leg in parts if leg.kind != "eval"), each, strict=True)
    ]
    return {"kind": "stages", "stages": stages}
