"""JSON lines under other names than ours: detectron2, MMEngine, Stable-Baselines3, and whoever writes flat objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from checker import rows
from checker.decoder import Decoder, LineDecoder, RowDecoder
from checker.events import Row, Unreadable
from checker.formats import baselines
from checker.formats.format import Format, Reading


class JsonDecoder(LineDecoder):
    """JSON lines of which some fields have other names, or another meaning in some rows."""

    __slots__ = ("_counted", "_places", "_reading", "_wholly")

    def __init__(self, reading: Reading, places: Mapping[str, str], counter: str = "") -> None:
        super().__init__()
        self._reading, self._places = reading, places
        self._wholly = counter
        self._counted = False

    def read(self, line: bytes) -> Row | Unreadable | None:
        found = rows.decode(line, self.rows, self.lines)
        if not isinstance(found, Row):
            return found if line.strip() else None
        document: dict[str, Any] = from_json(line)
        if self._wholly:
            self._counted |= self._wholly in document
            if self._counted and self._wholly not in document:
                document.pop("step", None)
        return self._reading.row(document, self.rows, self.lines, self._places)


def _row(head: bytes) -> bool:
    """Whether the first object tells a place on a curve, and a value there."""
    first = _first(head)
    found = rows.row(first, 0, 1) if first else None
    return found is not None and bool(found.values) and (found.step is not None or found.epoch is not None)


def lines(reading: Reading) -> Decoder:
    """JSON lines whose fields mean what they mean with us."""
    return JsonDecoder(reading, {}) if reading.columns else RowDecoder()


def _first(head: bytes) -> Mapping[str, Any]:
    """The object in the first line; empty when there is none."""
    line = next((line for line in head.splitlines() if line.strip()), b"")
    try:
        found = from_json(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


MMENGINE = Format(
    "mmengine",
    "MMEngine",
    ("vis_data/scalars.json", "scalars.json"),
    lambda head: {"step", "data_time"} <= _first(head).keys(),
    decoder=lambda reading: JsonDecoder(reading, {}, counter="iter"),
    about="no times; rows of an evaluation count epochs as steps, which are left out",
)

DETECTRON2 = Format(
    "detectron2",
    "detectron2",
    ("metrics.json",),
    lambda head: {"iteration", "data_time"} <= _first(head).keys(),
    decoder=lines,
    about="no times; one row in 20 iterations, each value a median of these, so that a lone NaN may not show",
)

BASELINES = Format(
    "stable-baselines3-json",
    "Stable-Baselines3",
    ("progress.json",),
    lambda head: "time/total_timesteps" in _first(head),
    decoder=lambda reading: JsonDecoder(reading, baselines.PLACES),
    about="as `stable-baselines3`",
    loss_falls=False,
)

LINES = Format(
    "jsonl",
    "any JSON lines: flat rows, zero-operators' rows, our own",
    ("*.jsonl", "*.ndjson"),
    _row,
    decoder=lines,
)
