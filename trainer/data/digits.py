"""Handwritten digits (UCI ML hand-written digits, as scikit-learn brings them): small images for small models."""

from __future__ import annotations

import hashlib

import torch

from trainer import spec
from trainer.data.order import shuffled
from trainer.data.samples import Data, Tensors
from trainer.spec.data import Digits

_DARKEST = 16.0


def digits(source: Digits, where: str = "data") -> Data:
    """1,797 images of 8x8 pixels from 0 to 1, each with the digit that it shows.

    Raises:
        SpecError: scikit-learn is not installed, or the split leaves nothing.
    """
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        raise spec.SpecError(
            f'{where}.kind = "digits": needs scikit-learn; install it with: pip install "training-checker[classical]"'
        ) from None
    found = load_digits()
    content = found.images.astype("float32").tobytes() + found.target.astype("int64").tobytes()
    inputs = torch.from_numpy(found.images).float().div_(_DARKEST)[:, None]
    targets = torch.from_numpy(found.target).long()
    chosen = shuffled(torch.arange(len(inputs)), len(inputs), f"split {source.split_seed}")
    val = int(len(inputs) * source.val_fraction)
    if not 0 < val < len(inputs):
        raise spec.SpecError(
            f"{where}.val_fraction = {source.val_fraction}: of {len(inputs)} images that is none, or all"
        )
    train, held_out = (Tensors(inputs[part], targets[part]) for part in (chosen[:-val], chosen[-val:]))
    digest = hashlib.sha256(content).hexdigest()
    labels = sorted(set(targets.tolist()))
    described = {"path": "scikit-learn", "bytes": len(content), "sha256": digest, "records": len(inputs)}
    return Data(
        train,
        held_out,
        task="classification",
        inputs=tuple(inputs.shape[1:]),
        outputs=len(labels),
        fingerprint=hashlib.sha256(f"digits {digest} {val} {source.split_seed}".encode()).hexdigest()[:16],
        facts={
            "kind": source.kind,
            "train": len(train),
            "val": len(held_out),
            "sources": [described],
            "labels": labels,
        },
    )
