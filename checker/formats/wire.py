"""Protocol buffers, as far as reading a log needs them: a message is a run of numbered fields.

TensorBoard's and W&B's files are such messages in frames. Their own libraries weigh hundreds of megabytes; the
encoding is public (protobuf.dev, "Encoding") and has not changed since 2008.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, int, bytes]
"""Number, kind, the value of a varint (0 for other kinds), and the bytes of the others."""


def fields(data: bytes) -> Iterator[Field]:
    """The fields of a message, in the order in which they stand.

    Raises:
        ValueError: these bytes are no message.
    """
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, kind, value, b""
            continue
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"field {number} has the kind {kind}, which is none")
        if at + size > len(data):
            raise ValueError(f"field {number} is {size:,} bytes long, and {len(data) - at:,} are left")
        yield number, kind, 0, data[at : at + size]
        at += size


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length at a place, and the place behind it.

    Raises:
        ValueError: it ends too late, or not at all.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 10 bytes")


def signed(value: int) -> int:
    """A varint taken for a number that may be negative."""
    return value - (1 << 64) if value >= 1 << 63 else value


def double(data: bytes) -> float:
    return float(struct.unpack("<d", data)[0])


def single(data: bytes) -> float:
    return float(struct.unpack("<f", data)[0])
