"""Hugging Face's `trainer_state.json`: the whole history in one document, saved anew with each checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import from_json

import contract
from checker import rows
from checker.events import Row, Unreadable
from checker.formats.format import Format, Half, Kept, Reading

MAX_SIZE = 1 << 28
"""Bytes. A history of a million entries takes less."""


def read(paths: Sequence[Path], reading: Reading) -> Iterator[Row | Unreadable]:
    """The rows of the last of `paths`.

    Raises:
        Half: it ends in the middle.
        OSError, contract.Unreadable: it cannot be read.
    """
    path = paths[-1]
    data, _ = contract.read_plain(path, MAX_SIZE)
    try:
        document = from_json(data)
    except ValueError as error:
        raise Half(f"{path.name}: {error}") from None
    history = document.get("log_history") if isinstance(document, dict) else None
    if not isinstance(history, list):
        yield Unreadable(0, f"{path.name} holds no log_history")
        return
    index = 0
    for number, entry in enumerate(history, 1):
        if not isinstance(entry, dict):
            yield Unreadable(number, f"log_history: expected an object, found {type(entry).__name__}")
            continue
        yield reading.row(entry if index else {**_totals(document), **entry}, index, number)
        index += 1


def _totals(document: dict[str, Any]) -> dict[str, Any]:
    """The planned length, which the document tells beside the rows."""
    steps, epochs = document.get("max_steps"), document.get("num_train_epochs")
    found = {"total_steps": steps, "total_epochs": epochs}
    return {name: number for name, number in found.items() if type(number) is int and 0 < number < rows.BIG}


FORMAT = Format(
    "huggingface",
    "Hugging Face Trainer",
    ("trainer_state.json", "checkpoint-*/trainer_state.json"),
    lambda head: b'"log_history"' in head or b'"best_model_checkpoint"' in head,
    kept=Kept.SAVED,
    read=read,
    about="saved with each checkpoint only, without times; unless `logging_nan_inf_filter=False`, a NaN of the train "
    "loss is replaced before it is logged, and only the norm of the gradient shows it",
)
