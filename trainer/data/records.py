"""JSONL and CSV files as training data: whether they can be used, what they mean, and how they are split."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trainer import spec
from trainer.data import cache
from trainer.data.fields import Label, in_order
from trainer.data.index import MOST_LABELS, Account, Index, index
from trainer.data.normalize import mean_and_scale
from trainer.data.order import shuffled
from trainer.data.record_samples import Meaning, RecordSamples
from trainer.data.samples import Data
from trainer.data.stored import Stored
from trainer.data.text import VOCABULARY, context_of
from trainer.spec.data import Records

_WRITTEN = 1 << 16
"""Numbers of the split written together."""


def records(source: Records, options: spec.Spec, where: str = "data") -> Data:
    """The records of one file, some held out, or of two.

    Raises:
        SpecError: a file cannot be read, a record cannot be used where all must be, or they do not make one task.
    """
    if source.delimiter in '"\r\n':
        raise spec.SpecError(f"{where}.delimiter = {source.delimiter!r}: quotes fields or ends rows already")
    if source.text:
        context_of(options, where)
        if source.normalize:
            raise spec.SpecError(f"{where}.normalize = true: {where}.text is bytes, which have no mean to shift by")
    files = [(source.path, f"{where}.path")]
    files += [(source.val_path, f"{where}.val_path")] if source.val_path is not None else []
    indices = [index(path, source, options, key) for path, key in files]
    for (_, key), found in zip(files, indices, strict=True):
        _usable(found, source, key, where)
    meaning, task, labels = _meaning(indices, source, options, where)
    train, val = _split(indices, meaning, source, where)
    if source.normalize:
        mean, scale = mean_and_scale(train)
        meaning = Meaning(meaning.context, meaning.shape, meaning.labels, mean, scale)
        train, val = (RecordSamples(part.found, meaning, part.rows, part.begin, part.end) for part in (train, val))
    accounts = [found.account for found in indices]
    pairs = zip(files, indices, strict=True)
    sources = [_facts(path, found, source) for (path, _), found in pairs]
    facts: dict[str, Any] = {"kind": source.kind, "train": len(train), "val": len(val), "sources": sources}
    return Data(
        train,
        val,
        task=task,
        inputs=(meaning.context,) if source.text else meaning.shape,
        outputs=VOCABULARY if source.text else len(labels) or 1,
        fingerprint=_fingerprint(accounts, source, options, task),
        facts={**facts, **({"labels": labels} if labels else {})},
        text=bool(source.text),
        padded=bool(source.text),
    )


def _usable(found: Index, source: Records, key: str, where: str) -> None:
    """Sees that records are left, and none is malformed where that must not be.

    Raises:
        SpecError: it is not so.
    """
    account = found.account
    faults = "".join(f"\n  {fault}" for fault in account.faults)
    total = account.records + account.malformed
    if account.malformed and source.bad_records == "fail":
        raise spec.SpecError(
            f"{key}: {account.malformed} of {total} records cannot be used; correct them, or leave them out with "
            f'{where}.bad_records = "skip"; the first are{faults}'
        )
    if not account.records:
        raise spec.SpecError(f"{key} = {str(found.path)!r}: has no record that can be used{faults}")


def _meaning(
    indices: Sequence[Index], source: Records, options: spec.Spec, where: str
) -> tuple[Meaning, str, list[Label]]:
    """What becomes of the records, the task, and its labels if it has any.

    Raises:
        SpecError: the files differ in shape, or their targets are not of one kind.
    """
    if source.text:
        return Meaning(options.context), "language", []
    accounts = [found.account for found in indices]
    shapes = accounts[0].shapes
    if accounts[-1].shapes != shapes:
        raise spec.SpecError(
            f"{where}.val_path: features have the shapes {accounts[-1].shapes}, to learn from {shapes}"
        )
    shape = (
        tuple(shapes[0]) if len(shapes) == 1 and shapes[0] else (sum(map(torch.Size.numel, map(torch.Size, shapes))),)
    )
    if _is_regression(accounts, options, where):
        return Meaning(shape=shape), "regression", []
    labels = in_order(label for account in accounts for label in _labels(account, where))
    if len(labels) > MOST_LABELS:
        raise _too_many(where)
    return (
        Meaning(shape=shape, labels={str(label): number for number, label in enumerate(labels)}),
        "classification",
        labels,
    )


def _is_regression(accounts: Sequence[Account], options: spec.Spec, where: str) -> bool:
    """Whether targets are numbers to predict: they are if one of them is not whole.

    Raises:
        SpecError: some are such numbers, some are texts.
    """
    if options.task in ("classification", "regression"):
        return options.task == "regression"
    other = next((account.first_other for account in accounts if account.other), "")
    text = next((account.first_text for account in accounts if account.texts), "")
    if other and text:
        raise spec.SpecError(
            f"{where}.target: some are numbers, such as {other}, and some texts, such as {text}; "
            'set task = "regression" or "classification", which makes the others malformed'
        )
    return bool(other)


def _labels(account: Account, where: str) -> list[str]:
    if account.labels is None:
        raise _too_many(where)
    return account.labels


def _too_many(where: str) -> spec.SpecError:
    return spec.SpecError(
        f'{where}.target: has more than {MOST_LABELS} different values, too many for labels; set task = "regression" '
        "if they are numbers to predict"
    )


def _split(
    indices: Sequence[Index], meaning: Meaning, source: Records, where: str
) -> tuple[RecordSamples, RecordSamples]:
    """Samples to learn from and to be examined on.

    Raises:
        SpecError: the split leaves one of them nothing.
    """
    if len(indices) > 1:
        train, val = (RecordSamples(found, meaning, None, 0, found.account.records) for found in indices)
        return train, val
    found, count = indices[0], indices[0].account.records
    held_out = int(count * source.val_fraction)
    if not 0 < held_out < count:
        raise spec.SpecError(f"{where}.val_fraction = {source.val_fraction}: of {count} records that is none, or all")

    def write(folder: Path) -> None:
        with (folder / "rows").open("wb") as file:
            for begin in range(0, count, _WRITTEN):
                places = torch.arange(begin, min(begin + _WRITTEN, count))
                array("q", shuffled(places, count, f"split {source.split_seed}").tolist()).tofile(file)

    key = {"count": count, "seed": source.split_seed}
    rows = Stored(cache.kept("split", key, write) / "rows", torch.int64)
    cut = count - held_out
    return RecordSamples(found, meaning, rows, 0, cut), RecordSamples(found, meaning, rows, cut, count)


def _facts(path: str, found: Index, source: Records) -> dict[str, Any]:
    account = found.account
    skipped = account.malformed if source.bad_records == "skip" else 0
    counted = {name: getattr(account, name) for name in ("sha256", "records", "blank", "malformed", "cut", "faults")}
    return {"path": path, "bytes": found.size, **counted, "skipped": skipped}


def _fingerprint(accounts: Sequence[Account], source: Records, options: spec.Spec, task: str) -> str:
    """Follows from what the files hold and all that decides what is taken from them."""
    told = {
        "content": [(account.sha256, account.records) for account in accounts],
        "split": None if source.val_path is not None else (source.val_fraction, source.split_seed),
        "cut": options.context if source.text else None,
        "task": task,
        **source.model_dump(include={"kind", "text", "features", "target", "normalize", "delimiter"}),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
