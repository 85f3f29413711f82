"""TensorBoard's event files: frames of protocol buffers, one value or a few in each.

A frame is its length (8 bytes), a checksum of that (4), the message, and a checksum of it (4). Each scalar of a step
is an event of its own, with its own time, and becomes a row of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from checker.events import Row, Unreadable
from checker.formats import wire
from checker.formats.format import Format, Kept, Reading

_FRAME = struct.Struct("<QI")

MAX_RECORD = 1 << 24
"""Bytes. A longer one holds a picture or a graph, and is passed over without being kept."""

NO_RECORD = 1 << 32
"""Bytes; nobody writes so long a record."""

FIRST = b"brain.Event:"
"""What the first event of a file tells: its version."""


class EventDecoder:
    """Event files, one after another."""

    def __init__(self, reading: Reading) -> None:
        self.lines = 0
        self.rows = 0
        self._reading = reading
        self._rest = bytearray()
        self._pass_over = 0
        """Bytes of a long record that are still to come."""
        self._damaged = False

    @property
    def unfinished(self) -> int:
        return len(self._rest) or self._pass_over

    def feed(self, data: bytes) -> Iterator[Row | Unreadable]:
        if self._damaged:
            return
        skipped = min(self._pass_over, len(data))
        self._pass_over -= skipped
        self._rest += data[skipped:]
        at = 0
        while len(self._rest) - at >= _FRAME.size:
            size, _ = _FRAME.unpack_from(self._rest, at)
            if size > NO_RECORD:  # nothing says where the next one begins
                self.lines += 1
                self._damaged, at = True, len(self._rest)
                yield Unreadable(self.lines, "damaged from here on: what should be a length is none")
                break
            end = at + _FRAME.size + size + 4
            if size > MAX_RECORD:
                self.lines += 1
                self._pass_over = max(0, end - len(self._rest))
                at = min(end, len(self._rest))
                continue
            if end > len(self._rest):
                break
            self.lines += 1
            event = self._event(bytes(self._rest[at + _FRAME.size : end - 4]))
            at = end
            if event is not None:
                self.rows += isinstance(event, Row)
                yield event
        del self._rest[:at]

    def finish(self) -> Iterator[Row | Unreadable]:
        if self.unfinished:
            size = self.unfinished
            self._rest.clear()
            self._pass_over = 0
            yield Unreadable(self.lines + 1, f"the file ends in an unfinished record ({size:,} bytes)")

    def _event(self, message: bytes) -> Row | Unreadable | None:
        try:
            document = _document(message)
        except (ValueError, struct.error) as error:
            return Unreadable(self.lines, f"not an event of TensorBoard ({error})")
        return self._reading.row(document, self.rows, self.lines) if document else None


def _document(message: bytes) -> dict[str, Any]:
    """The scalars in an event, with its step and its time; empty for any other event."""
    step, at, values = 0, 0.0, dict[str, Any]()
    for number, kind, value, data in wire.fields(message):
        if number == 1 and kind == wire.FIXED64:
            at = wire.double(data)
        elif number == 2 and kind == wire.VARINT:
            step = wire.signed(value)
        elif number == 5 and kind == wire.BYTES:
            values.update(_scalars(data))
    # The event's own step and time come first, for a scalar may well be called `step` or `global_step`.
    place = {"step": step, "timestamp": at}
    return {**place, **{name: value for name, value in values.items() if name not in place}} if values else {}


def _scalars(summary: bytes) -> Iterator[tuple[str, float]]:
    """The numbers in a summary. TensorFlow 2 writes each as a tensor without dimensions, everybody else as a float."""
    for number, kind, _, data in wire.fields(summary):
        if number != 1 or kind != wire.BYTES:
            continue
        name, found = "", None
        for inner, kind_, _, piece in wire.fields(data):
            if inner == 1 and kind_ == wire.BYTES:
                name = piece.decode("utf-8", errors="replace")
            elif inner == 2 and kind_ == wire.FIXED32:
                found = wire.single(piece)
            elif inner == 8 and kind_ == wire.BYTES:
                found = _scalar(piece)
        if name and found is not None:
            yield name, found


_FLOAT, _DOUBLE = 1, 2
"""Types of a tensor's elements."""


def _scalar(tensor: bytes) -> float | None:
    """The one number of a tensor without dimensions; None for any other tensor."""
    type_, content, shaped, singles, doubles = 0, b"", b"", b"", b""
    for number, kind, value, data in wire.fields(tensor):
        if number == 1 and kind == wire.VARINT:
            type_ = value
        elif number == 2 and kind == wire.BYTES:
            shaped = data
        elif number == 4 and kind == wire.BYTES:
            content = data
        elif number == 5 and kind in (wire.BYTES, wire.FIXED32):
            singles += data
        elif number == 6 and kind in (wire.BYTES, wire.FIXED64):
            doubles += data
    if any(number == 2 for number, *_ in wire.fields(shaped)):  # it has dimensions
        return None
    if type_ == _FLOAT and len(content or singles) == 4:
        return wire.single(content or singles)
    if type_ == _DOUBLE and len(content or doubles) == 8:
        return wire.double(content or doubles)
    return None


def _known(head: bytes) -> bool:
    return len(head) > _FRAME.size and FIRST in head[:128]


FORMAT = Format(
    "tensorboard",
    "TensorBoard",
    ("events.out.tfevents.*", "*.tfevents.*"),
    _known,
    kept=Kept.JOINED,
    decoder=EventDecoder,
    about="a writer may keep events back for two minutes (`flush_secs`), so what happens is noticed that much later; "
    "each value is a row of its own",
)
