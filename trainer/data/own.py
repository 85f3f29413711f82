"""The user's own data: objects with a length and items."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trainer import named, spec
from trainer.data.samples import Batch, Data
from trainer.spec.data import OwnData

_HASHED = 256
"""Samples of each part that the fingerprint looks at, spread over all: reading every one may take hours."""
_PAIR = 2


class _NoPairError(RuntimeError):
    """A sample is something else than an input and a target."""


class OwnSamples:
    """Somebody's samples, stacked to batches."""

    def __init__(self, items: Any, name: str) -> None:
        """Samples of an object with `__len__` and `__getitem__`.

        Args:
            items: the object; each item a pair of tensors, input and target.
            name: what it is called in messages.
        """
        self.items, self.name = items, name

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, numbers: Tensor) -> Batch:
        """The samples with these numbers.

        Raises:
            RuntimeError: one is no pair of tensors, or they differ in shape.
        """
        pairs = [self.pair(number) for number in numbers.tolist()]
        try:
            inputs, targets = (torch.stack(each) for each in zip(*pairs, strict=True))
        except RuntimeError as error:
            raise RuntimeError(f"{self.name}: samples {numbers.tolist()} do not make a batch: {error}") from None
        return inputs, targets

    def pair(self, number: int) -> Batch:
        """One sample; a target that is a plain number becomes a tensor.

        Raises:
            RuntimeError: it is no pair of tensors.
        """
        try:
            item = self.items[number]
        except Exception as error:
            error.add_note(f"while {self.name}[{number}] was read")
            raise
        if isinstance(item, tuple | list) and len(item) == _PAIR:
            one, two = item
            two = torch.tensor(two) if isinstance(two, int | float) else two
            if isinstance(one, Tensor) and isinstance(two, Tensor):
                return one, two
        raise _NoPairError(f"{self.name}[{number}] is {_described(item)}, not a pair of tensors, input and target")

    def scores(self) -> Tensor | None:
        """What its own `scores()` says, if it has one."""
        own = getattr(self.items, "scores", None)
        found = own() if callable(own) else None
        return found.float() if isinstance(found, Tensor) else None


def own(source: OwnData, seed: int, where: str = "data", *, text: bool = False) -> Data:
    """What `kind` returns when it is called with `options` as keyword arguments.

    Args:
        source: the section of the spec.
        seed: what random numbers that are drawn meanwhile follow from, so that a resumed run has the same data.
        where: the key of the section.
        text: whether it holds tokens.

    Raises:
        SpecError: there is no such function, it fails, or what it returns cannot be learned from.
    """
    with _random_numbers(seed):
        return replace(_own(source, where), text=text)


def _own(source: OwnData, where: str) -> Data:
    found = _called(source, where)
    name = f"{where}.kind = {source.kind!r}"
    if not isinstance(found, tuple | list) or len(found) != _PAIR:
        raise spec.SpecError(
            f"{name}: returned {_described(found)}, not a pair: what to learn from, what to examine on"
        )
    train, val = (OwnSamples(items, part) for items, part in zip(found, ("train", "val"), strict=True))
    for part in (train, val):
        _usable(part, name)
    fingerprint, shape = _fingerprint(source, name, train, val), tuple(train.pair(0)[0].shape)
    told = json.loads(json.dumps(source.options, default=str))  # TOML also has dates
    facts = {"kind": source.kind, "train": len(train), "val": len(val), "options": told, "sources": []}
    return Data(train, val, task="", inputs=shape, outputs=source.outputs or 0, fingerprint=fingerprint, facts=facts)


@contextmanager
def _random_numbers(seed: int) -> Iterator[None]:
    """Random numbers of its own, for code that must not move those of the run."""
    state, other = torch.get_rng_state(), random.getstate()
    torch.default_generator.manual_seed(seed)  # the CPU's alone: a GPU's stay as they are
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        random.setstate(other)


def _called(source: OwnData, where: str) -> Any:
    function = named.load(source.kind, f"{where}.kind")
    try:
        return function(**source.options)
    except spec.SpecError:
        raise
    except Exception as error:
        raise spec.SpecError(f"{where}.kind = {source.kind!r}: {named.raised(error)}") from error


def _usable(part: OwnSamples, name: str) -> None:
    """Sees that there are samples.

    Raises:
        SpecError: it is not so.
    """
    if not hasattr(part.items, "__len__") or not hasattr(part.items, "__getitem__"):
        raise spec.SpecError(f"{name}: {part.name} is {_described(part.items)}, which has no length or no items")
    if not len(part):
        raise spec.SpecError(f"{name}: {part.name} has no samples")


def _read(part: OwnSamples, number: int, name: str) -> Batch:
    """One sample, before anything begins.

    Raises:
        SpecError: it cannot be had.
    """
    try:
        return part.pair(number)
    except _NoPairError as error:
        raise spec.SpecError(f"{name}: {error}") from error
    except Exception as error:
        raise spec.SpecError(f"{name}: {part.name}[{number}]: {named.raised(error)}") from error


def _fingerprint(source: OwnData, name: str, *parts: OwnSamples) -> str:
    """Follows from the options and from some samples of each part: their shapes alone where they are drawn anew."""
    digest = hashlib.sha256(json.dumps([source.kind, source.options], sort_keys=True, default=str).encode())
    for part in parts:
        same = all(map(torch.equal, _read(part, 0, name), _read(part, 0, name)))
        digest.update(f"{len(part)} {same}".encode())
        every = -(-len(part) // _HASHED)
        for number in range(0, len(part), every):
            for tensor in _read(part, number, name):
                digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(_content(tensor) if same else b"")
    return digest.hexdigest()[:16]


def _content(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def _described(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} ({text if len(text) <= 60 else text[:59] + '…'})"
