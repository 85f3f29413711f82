"""From the lines of `metrics.jsonl` to what a dashboard is told. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from contract import Event, Unreadable, decode_object, number_in
from trainer.mirrors.mirror import Told

_MEASURED = (Event.STEP, Event.EVALUATION, Event.EPOCH_END, Event.FOLD_END)
"""Rows whose numbers are new; that of a checkpoint and the last one say again what others have said."""

_REMARKS = (Event.NOTE, Event.REGIME_CHANGE)


def told(lines: Iterable[bytes]) -> Iterator[Told]:
    """What the rows in `lines` tell; a line that is no row, or says nothing that a dashboard shows, tells nothing."""
    for line in lines:
        try:
            row = decode_object(line, "")
        except Unreadable:  # a crash in the midst of a row has left it
            continue
        event = row.get("event", Event.STEP)
        numbers = _numbers(row) if event in _MEASURED else {}
        text = str(row.get("text", "")) if event in _REMARKS else ""
        if numbers or text:
            yield Told(event=event, at=_seconds(row.get("timestamp")), step=_step(row), numbers=numbers, text=text)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Metrics under their own names, and what a step says of itself."""
    found = dict(row["metrics"]) if isinstance(row.get("metrics"), dict) else {}
    if row.get("event", Event.STEP) == Event.STEP:
        found |= {name: row[name] for name in ("learning_rate", "gpu_memory_mb") if name in row}
    return {name: number for name, value in found.items() if (number := number_in(value)) is not None}


def _step(row: Mapping[str, Any]) -> int | None:
    step = row.get("step")
    return step if isinstance(step, int) else None


def _seconds(stamp: object) -> float:
    """Seconds since 1970 of a time in a row; 0 where there is none."""
    try:
        return datetime.fromisoformat(str(stamp)).timestamp()
    except ValueError:
        return 0.0
