"""Event files of TensorBoard, written by hand."""

import struct


def varint(number):
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number, data):
    """A field of a message: of bytes, or a varint."""
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def event(step, at=1.7e9, /, **values):
    """An event of TensorBoard, with its frame."""
    summary = b"".join(
        field(1, field(1, name.encode()) + varint(2 << 3 | 5) + struct.pack("<f", value))
        for name, value in values.items()
    )
    return frame(varint(1 << 3 | 1) + struct.pack("<d", at) + field(2, step) + field(5, summary))


def frame(message):
    return struct.pack("<QI", len(message), 0) + message + b"\0\0\0\0"


VERSION = frame(varint(1 << 3 | 1) + struct.pack("<d", 1.7e9) + field(3, b"brain.Event:2"))
"""What every event file begins with."""
