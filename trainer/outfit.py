"""What a leg of a run has of its own: optimizer, loader, evaluator, and what changes at which of its steps."""

from __future__ import annotations

from torch import nn

from trainer import model as models
from trainer import optim, spec
from trainer.data import Loader, Position, curriculum
from trainer.distributed import Alone
from trainer.freezing import Freezing
from trainer.stages import Leg


class Outfit:
    """Set up anew at the begin of each leg.

    Args:
        leg: which one.
        model: has exactly those parameters learn, from here on, that do at `step`.
        options: of the whole run.
        ranks: the processes that share the work.
        step: of the leg, the first being 1.

    Raises:
        SpecError: a group or a pattern matches no parameter, or nothing is left to train.
    """

    def __init__(self, leg: Leg, model: nn.Module, options: spec.Spec, ranks: Alone, step: int = 1) -> None:
        self.leg, self._model, self._ranks = leg, model, ranks
        own = leg.options
        models.freeze(model, options.lora, own.train.trainable)
        self._freezing = Freezing(model, own.frozen)
        self._mining_begins = own.mining.warmup_steps + 1 if own.mining and own.mining.warmup_steps else None
        self._harder = frozenset(curriculum.changes(own, leg.steps))
        mining_begins = set() if self._mining_begins is None else {self._mining_begins}
        self.switches = self._freezing.switches | self._harder | mining_begins
        """Steps of the leg that begin with a change."""
        self.optimizer = optim.build(model, own.optimizer)
        self.weights = list(model.parameters())  # to walk through a model takes longer than a small step
        self._freezing.apply(step)
        self.forward = ranks.shared(model, own)
        self.loader = Loader(leg.data.train, own, Position(), rank=ranks.rank, world=ranks.world, total_steps=leg.steps)

    def switch(self, step: int) -> str:
        """Begins what begins with this step of the leg, and says what: the curve may jump."""
        told = []
        if step in self._freezing.switches:
            learning, all_ = self._freezing.apply(step)
            self.forward = self._ranks.shared(self._model, self.leg.options)
            told.append(f"{learning} of {all_} parameter tensors learn")
        if step == self._mining_begins and self.leg.options.mining:
            told.append(f"the hardest {100 * self.leg.options.mining.keep_ratio:g} % of each batch give a gradient")
        if step in self._harder:
            told.append("harder samples come in")
        return f"{', '.join(told)} from here on"


def check(leg: Leg, first: Leg, model: nn.Module, options: spec.Spec) -> None:
    """Whether a later leg can be set out: that must not turn out after hours.

    Raises:
        SpecError: it cannot.
    """
    data, own = leg.data, leg.options
    if (data.text, data.inputs, data.outputs) != (first.data.text, first.data.inputs, first.data.outputs):
        raise spec.SpecError(f"stages: {leg.name!r} has data of another shape than {first.name!r}")
    try:
        models.freeze(model, options.lora, own.train.trainable)
        Freezing(model, own.frozen)
        optim.build(model, own.optimizer)
        if own.curriculum:
            curriculum.Eligible(data.train, own, leg.steps)
    except spec.SpecError as error:
        raise spec.SpecError(f"stages: {leg.name!r}: {error}") from None
