"""Real data that every machine has: the text of the standard library, and the sets that scikit-learn carries."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TEXT_BYTES = 400_000
CONTEXT = 12
SYMBOLS = 64
"""Bytes 32 to 95 as they are, lower-case letters as upper-case ones, everything else as a blank."""


@dataclass(frozen=True)
class Data:
    """Inputs and targets, split in two once and for all; the same for every member of every program."""

    x: Tensor
    y: Tensor
    x_val: Tensor
    y_val: Tensor
    classes: int = 0
    """0 for a regression."""


def _carried(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets that scikit-learn has on board; only who asks for them needs it."""
    from sklearn import datasets  # noqa: PLC0415

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x, y


def _split(x: np.ndarray, y: np.ndarray, classes: int, *, share: float = 0.25) -> Data:
    """A table, standardised by the part that is trained on; `share` of it is held out."""
    order = np.random.default_rng(0).permutation(len(x))
    cut = int(len(x) * share)
    held, kept = order[:cut], order[cut:]
    mean, deviation = x[kept].mean(0), x[kept].std(0) + 1e-6
    scaled = torch.tensor((x - mean) / deviation, dtype=torch.float32)
    target = torch.tensor(y, dtype=torch.long if classes else torch.float32)
    return Data(scaled[kept], target[kept], scaled[held], target[held], classes)


@cache
def digits() -> Data:
    """1,797 pictures of 8 by 8 pixels, ten classes; pixels from 0 to 1, not standardised."""
    x, y = _carried("digits")
    order = np.random.default_rng(0).permutation(len(x))
    pixels, target = torch.tensor(x / 16.0, dtype=torch.float32), torch.tensor(y, dtype=torch.long)
    held, kept = order[:400], order[400:]
    return Data(pixels[kept], target[kept], pixels[held], target[held], 10)


@cache
def cancer() -> Data:
    """569 tumours with 30 measures each, two classes."""
    x, y = _carried("breast_cancer")
    return _split(x, y, 2)


@cache
def wine() -> Data:
    """178 wines with 13 measures each, three classes."""
    x, y = _carried("wine")
    return _split(x, y, 3)


@cache
def diabetes() -> Data:
    """442 patients, one number to predict, standardised."""
    x, y = _carried("diabetes")
    return _split(x, (y - y.mean()) / y.std(), 0)


@cache
def text() -> Data:
    """Windows of the standard library's own source, the next symbol to be predicted at each place."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    raw = b"".join(file.read_bytes() for file in sorted(folder.glob("*.py")))[:TEXT_BYTES]
    upper = np.frombuffer(raw.upper(), dtype=np.uint8).astype(np.int64)
    symbols = np.where((upper >= 32) & (upper < 96), upper - 32, 0)
    count = len(symbols) // (CONTEXT + 1)
    windows = torch.tensor(symbols[: count * (CONTEXT + 1)].reshape(count, CONTEXT + 1))
    cut = count * 9 // 10
    train, held = windows[:cut], windows[cut : cut + 512]
    return Data(train, train, held, held, SYMBOLS)


DATA: dict[str, Callable[[], Data]] = {
    "digits": digits,
    "cancer": cancer,
    "wine": wine,
    "diabetes": diabetes,
    "text": text,
}
