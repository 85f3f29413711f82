"""How good the model is on text that it was not trained on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer import spec
from trainer.data import cut, windows_in
from trainer.precision import Precision


@torch.no_grad()
def evaluate(
    model: nn.Module, text: Tensor, options: spec.Spec, precision: Precision, device: torch.device
) -> dict[str, float]:
    """Loss, bits per byte and accuracy over the first `eval_batches` batches of the validation text."""
    context, size = options.context, options.train.batch_size
    windows = torch.arange(min(windows_in(text, context), options.train.eval_batches * size))
    loss, right, count = torch.zeros((), device=device), torch.zeros((), device=device), 0
    was_training = model.training
    model.eval()
    for part in torch.split(windows, size):
        tokens, targets = (item.to(device) for item in cut(text, part, context))
        with precision.autocast():
            logits = model(tokens).flatten(0, 1).float()
        loss += functional.cross_entropy(logits, targets.flatten(), reduction="sum")
        right += (logits.argmax(1) == targets.flatten()).sum()
        count += targets.numel()
    model.train(was_training)
    mean = loss.item() / count
    return {"val_loss": mean, "val_bits_per_byte": mean / math.log(2), "val_accuracy": right.item() / count}
