"""Numbers as the checker writes them: short, with steps and units, the same everywhere."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from checker import mask


def number(value: float) -> str:
    """Four significant digits; a whole number in full."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**15 else f"{value:.4g}"
    if math.isfinite(value) and value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def value(item: object, limit: int = 120) -> str:
    """Evidence as a cell shows it."""
    return number(item) if isinstance(item, int | float) else mask.markdown(item, limit)


def place(row: int, step: int | None, *, both: bool = False) -> str:
    """Where something is: in a run without steps the row is all there is."""
    if step is None:
        return f"row {row}"
    return f"step {step} (row {row})" if both else f"step {step}"


def in_rows(text: str) -> str:
    """What a rule says of a log without steps: it counts rows then, and calls them steps."""
    return re.sub(r"\bstep (?=\d)", "row ", text)


def share(part: float) -> str:
    """A share as a percentage, with a digit behind the point only where it matters."""
    percent = 100 * part
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def times(factor: float) -> str:
    return f"{factor:.0f}x" if factor >= 10 else f"{factor:.2g}x"


def count(how_many: int, noun: str) -> str:
    return f"{how_many} {noun}" if how_many == 1 else f"{how_many} {noun}s"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `5 h 12 min`, `2 d 3 h`: two units say enough."""
    if not math.isfinite(seconds) or seconds < 0:
        return "an unknown time"
    if seconds < 60:
        return f"{seconds:.3g} s"
    for size, name, next_size, next_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            return f"{whole} {name} {rest // next_size} {next_name}" if rest // next_size else f"{whole} {name}"
    return ""


def moment(text: object) -> datetime | None:
    """The time that an ISO 8601 text (or seconds since 1970) names, or None."""
    try:
        if isinstance(text, int | float):
            return datetime.fromtimestamp(text, UTC)
        found = datetime.fromisoformat(str(text))
    except (ValueError, OverflowError, OSError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def clock(text: object) -> str:
    """The time of day in UTC; what is no time stays as it was."""
    found = moment(text)
    return f"{found.astimezone(UTC):%H:%M:%S}" if found else mask.markdown(text, 40)
