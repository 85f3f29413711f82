"""One JSON object in a file that nobody vouches for.

Standard library only.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from contract import Unreadable, decode_object

MAX_SIZE = 1 << 24
"""Bytes. A record or a result has a few KB; a larger file is not read."""


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        Unreadable: it is not valid, or it is no regular file of a decent size.
        OSError: it is not there or cannot be read.
    """
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_SIZE:  # a named pipe would be read for ever
        raise Unreadable(f"{path}: is no regular file of at most {MAX_SIZE:,} bytes")
    return decode_object(path.read_bytes(), str(path))
