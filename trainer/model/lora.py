"""Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685): what a linear layer learns is a product of two thin matrices.

Names of the weights that were there stay as they are, so a checkpoint from before fits.
"""

from __future__ import annotations

import math
import re

from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import SpecError, listed
from trainer.spec.model import Lora

UPDATES = ("lora_down", "lora_up")
"""What learns, by the last part of its name."""


class LoraLinear(nn.Linear):
    """x W + b + (drop(x) A B) alpha / rank, of which A and B learn; B begins at 0, and so does the update."""

    def __init__(self, base: nn.Linear, options: Lora) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.lora_down = nn.Parameter(base.weight.new_empty(options.rank, base.in_features))
        self.lora_up = nn.Parameter(base.weight.new_zeros(base.out_features, options.rank))
        self.lora_drop = nn.Dropout(options.dropout)
        self.scale = options.alpha / options.rank
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        low = functional.linear(self.lora_drop(x), self.lora_down)
        return super().forward(x) + functional.linear(low, self.lora_up) * self.scale


def adapt(model: nn.Module, options: Lora) -> None:
    """Gives an update to every linear layer whose name matches one of the targets.

    Raises:
        SpecError: no linear layer matches.
    """
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear and name]
    chosen = [name for name in linear if any(re.search(target, name) for target in options.targets)]
    if not chosen:
        wanted = ", ".join(options.targets)
        raise SpecError(f"lora.targets = {wanted}: match no linear layer; there are {listed(linear)}")
    for name in chosen:
        place, _, own = name.rpartition(".")
        parent = model.get_submodule(place)
        setattr(parent, own, LoraLinear(model.get_submodule(name), options))  # type: ignore[arg-type]
