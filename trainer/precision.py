"""Which number format the forward pass runs in, and the loss scaling that half precision needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from trainer.errors import SpecError
from trainer.optim import Moves

_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast, with gradient scaling for fp16 (whose gradients underflow otherwise).

    A step whose scaled gradients overflow is skipped and the scale halved. That is how the scale is found, so it is
    logged, and is no failure. Whether a step was skipped is known on the device only; the row that says so comes when
    its numbers do, so that nothing waits.

    Raises:
        SpecError: the device cannot do it.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._format, self._device = _FORMATS.get(name), device.type
        if device.type == "cuda":
            if name == "bf16" and not torch.cuda.is_bf16_supported():
                raise SpecError(f"train.precision = 'bf16': {torch.cuda.get_device_name(device)} has none; take fp16")
            torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        if self._format is None:
            return nullcontext()
        return torch.autocast(self._device, dtype=self._format)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: Moves) -> None:
        if self.scaler.is_enabled():
            self.scaler.unscale_(optimizer)  # type: ignore[arg-type]  # of several all step, or none

    def step(self, optimizer: Moves) -> None:
        """Updates the weights, unless their gradients overflowed."""
        if not self.scaler.is_enabled():
            optimizer.step()
            return
        self.scaler.step(optimizer)  # type: ignore[arg-type]  # as above
        self.scaler.update()

    def scale(self) -> dict[str, Tensor]:
        """The scale for the next step as it stands on the device; nothing where gradients are not scaled."""
        if not self.scaler.is_enabled():
            return {}
        scale = self.scaler._get_scale_async()  # noqa: SLF001 - `get_scale` waits for the GPU
        return {} if scale is None else {"loss_scale": scale.clone()}

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self.scaler.load_state_dict(state)
