"""Which number format the forward pass runs in, and the loss scaling that half precision needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast, with gradient scaling for fp16 (whose gradients underflow otherwise).

    A step whose scaled gradients overflow is skipped and the scale halved. That is how the scale is found, so it is
    counted and logged, and is no failure.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.skipped = 0
        self._format, self._device = _FORMATS.get(name), device.type
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        if self._format is None:
            return nullcontext()
        return torch.autocast(self._device, dtype=self._format)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: Optimizer) -> None:
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> bool:
        """Updates the weights. Returns False when the step was skipped."""
        before = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        done = self.scaler.get_scale() >= before
        self.skipped += not done
        return done

    def metrics(self) -> dict[str, float]:
        """What belongs into a row when gradients are scaled, else nothing."""
        if not self.scaler.is_enabled():
            return {}
        return {"loss_scale": self.scaler.get_scale(), "skipped_steps": self.skipped}

    def state_dict(self) -> dict[str, Any]:
        return {"scaler": self.scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state["scaler"])
        self.skipped = state["skipped"]
