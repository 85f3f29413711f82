"""One metric's whole curve in bounded memory.

The curve is kept as at most `BLOCKS` blocks of equally many values, each block standing for its median. When the blocks
run out, neighbours are merged and blocks become twice as wide. So a short run is kept in full, a long one at a
resolution of about 1 % of its length, and the cost of looking at the curve does not grow with the run. What the blocks
hold depends on the values alone, never on how they arrived.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from operator import sub
from typing import Final, TypeAlias

BLOCKS = 128
"""Blocks before merging. 64 to 128 are in use, so a block is 0.8 to 1.6 % of the values so far."""

RECENT = 24
"""Raw values kept at full resolution: enough for a robust level and spread of the present."""

SPARE = 8
"""Raw values beyond those that may pile up: clearing them away one by one would cost time."""

CHUNK = 32
"""A wide block is the mean of the medians of chunks this long, so no block holds more raw values than this."""

SMOOTH = 5
"""Width of the running median over blocks: two neighbouring outliers cannot move it."""


_NONE = array("d")
"""Stands for what nobody asked for; never changed."""


Places: TypeAlias = "range | array[int]"
"""Where blocks end: most logs are regular, and a range takes no memory."""


class Series:
    """The finite values of one metric, oldest first.

    Taking a value in is an append and a comparison: everything else waits until a chunk is full, and then looks at all
    of its values at once.
    """

    __slots__ = (
        "_before",
        "_chunks",
        "_done",
        "_smooth",
        "_swing",
        "_swings_too",
        "_total",
        "first_row",
        "full",
        "last",
        "last_row",
        "last_step",
        "levels",
        "merged",
        "raw",
        "rows",
        "steps",
        "swings",
        "width",
    )  # fmt: skip

    def __init__(self, *, swings: bool = True) -> None:
        self.width = 1
        self.levels = array("d")
        self.swings = array("d") if swings else _NONE
        """The mean step from one raw value to the next, up or down, in each block; empty when nobody wants them."""
        self.rows: Places = range(0)
        """The last row of each block."""
        self.steps: Places = range(0)
        self.first_row = -1
        self.last = 0.0
        self.last_row = -1
        self.last_step = -1
        self.merged = 0
        self._swings_too = swings
        self.raw = array("d")
        """The last values of full chunks, then those of the open one. `History.fold` adds to it as `add` does."""
        self._done = 0
        """How many of them belong to full chunks."""
        self._before = 0
        """Values in full chunks, all told."""
        self.full = 1
        """The length at which the open chunk is full, or has its very first value."""
        self._total = 0.0
        self._swing = 0.0
        self._chunks = 0
        self._smooth: tuple[int, array[float]] = (0, _NONE)
        """The running median that was asked for last, with its width; the others are quickly made again."""

    def add(self, value: float, row: int, step: int) -> bool:
        """Takes the next value; True when it closed a block, so that the curve is worth another look."""
        raw = self.raw
        raw.append(value)
        self.last, self.last_row, self.last_step = value, row, step
        return len(raw) >= self.full and self.close_chunk()

    def close_chunk(self) -> bool:
        """Sums the open chunk up; True when it completed a block."""
        raw, done = self.raw, self._done
        if not self._before and len(raw) == 1:
            self.first_row = self.last_row
            self._open_chunk(done)
            if len(raw) < self.full:
                return False
        chunk = raw[done:]
        if self._swings_too:
            walk = raw[max(0, done - 1) :].tolist()
            self._swing = sum(map(abs, map(sub, walk[1:], walk)), self._swing)
        self._total += chunk[0] if len(chunk) == 1 else median(chunk)
        self._chunks += 1
        closed = self._chunks * CHUNK >= self.width
        if closed:
            self._close_block()
        self._before += len(chunk)
        if len(raw) >= RECENT + SPARE:
            del raw[:-RECENT]
        self._open_chunk(len(raw))
        return closed

    def _open_chunk(self, done: int) -> None:
        self._done = done
        self.full = done + min(self.width, CHUNK)

    def _close_block(self) -> None:
        self.levels.append(self._total / self._chunks)
        self.rows = _appended(self.rows, self.last_row)
        self.steps = _appended(self.steps, self.last_step)
        if self._swings_too:
            self.swings.append(self._swing / self.width)
        self._total, self._chunks, self._swing = 0.0, 0, 0.0
        if len(self.levels) >= BLOCKS:
            self._merge()

    def _merge(self) -> None:
        self.levels = _halved(self.levels)
        if self._swings_too:
            self.swings = _halved(self.swings)
        self.rows = self.rows[1::2]
        self.steps = self.steps[1::2]
        self.width *= 2
        self.merged += 1
        self._smooth = (0, _NONE)

    def rewind(self, step: int) -> None:
        """Forgets what was logged at or after `step`: a resumed run goes another way from there."""
        keep = bisect_left(self.steps, step)
        del self.levels[keep:], self.swings[keep:]
        self.rows, self.steps = self.rows[:keep], self.steps[:keep]
        self._total, self._chunks, self._swing = 0.0, 0, 0.0
        self._smooth = (0, _NONE)
        self.raw = self.levels[-RECENT:]
        self._before = keep * self.width
        self._open_chunk(len(self.raw))
        if not keep:
            self.full = 1  # the first value is looked at by itself, since its row is remembered
        else:
            self.last, self.last_row, self.last_step = self.levels[-1], self.rows[-1], self.steps[-1]

    # ------------------------------------------------------------------------------------------------ questions

    @property
    def count(self) -> int:
        """The number of values."""
        return self._before + len(self.raw) - self._done

    @property
    def recent(self) -> array[float]:
        """The last raw values, at most `RECENT`."""
        return self.raw[-RECENT:]

    def smooth(self, width: int = SMOOTH) -> list[float]:
        """The running median of the blocks, as long as `levels`; at the ends over what there is."""
        known, smooth = self._smooth
        if known != width:
            smooth = array("d", running_median(self.levels, width))
        elif len(smooth) < len(self.levels):
            sure = max(0, len(smooth) - width // 2)  # a new block is seen only by windows that reach it
            smooth[sure:] = array("d", running_median(self.levels, width, sure))
        self._smooth = (width, smooth)
        return smooth.tolist()

    def level(self, values: int = SMOOTH) -> float:
        """The median of the last `values` raw values."""
        return median(self.raw[-min(values, RECENT) :])

    def level_before(self, values: int) -> float:
        """The median of the five raw values before the last `values` ones; the level itself where there are none."""
        recent = self.recent
        end = len(recent) - values
        return median(recent[max(0, end - SMOOTH) : end]) if end > 0 else self.level()

    def start(self) -> float:
        """The level at the very beginning: the median of the first blocks."""
        return median(self.levels[:SMOOTH]) if self.levels else self.last

    def best(self, since: int = 0) -> tuple[float, int]:
        """The lowest smoothed level at or after block `since`, and its block."""
        smooth = self.smooth()
        if len(smooth) <= since:
            return self.level(), max(0, len(smooth) - 1)
        best = min(smooth[since:])
        return best, smooth.index(best, since)

    def noise(self) -> float:
        """The noise of the last raw values around their trend."""
        return noise_of(self.recent)

    def spread(self, since: int = 0, until: int | None = None) -> float:
        """The noise of blocks `since` to `until` around their trend."""
        return noise_of(self.levels[since:until])

    def block_at(self, row: int) -> int:
        """The block that holds `row`."""
        return min(bisect_left(self.rows, row), max(0, len(self.rows) - 1))


EMPTY: Final = Series(swings=False)
"""Stands for a curve of which nothing has come yet; nobody adds to it."""


def _appended(places: Places, place: int) -> Places:
    """`places` with one more; irregular ones are kept in half the memory until one of them is beyond 2 billion."""
    if isinstance(places, range):
        stride = place - places[-1] if places else 1
        if stride > 0 and (len(places) < 2 or stride == places.step):
            return range(places[0] if places else place, place + stride, stride)
        places = array("i" if max(places[-1], place) < 1 << 31 else "q", places)
    try:
        places.append(place)
    except OverflowError:
        return array("q", [*places, place])
    return places


def _halved(values: array[float]) -> array[float]:
    return array("d", ((values[i] + values[i + 1]) / 2 for i in range(0, len(values), 2)))


def noise_of(values: Sequence[float]) -> float:
    """The standard deviation of the noise in `values`, robustly and whatever the trend.

    The median absolute second difference, divided by 0.6745 (normal consistency) and by the square root of 6 (a second
    difference of independent values has six times their variance). A straight trend has none, a single spike moves
    three of them.
    """
    if len(values) < 4:
        return 0.0
    bends = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return median(bends) / 1.652


def median(values: Iterable[float]) -> float:
    """The median of at least one value (statistics.median costs five times as much on short lists)."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def running_median(values: Sequence[float], width: int, since: int = 0) -> list[float]:
    """The centred running median of odd `width` from `since` on; at the ends over the values there are."""
    half, count = width // 2, len(values)
    begin, end = max(since, half), count - half
    middle = [sorted(values[i - half : i + half + 1])[half] for i in range(begin, end)]
    head = [median(values[: i + half + 1]) for i in range(since, min(half, count))]
    tail = [median(values[i - half :]) for i in range(max(begin, end), count)]
    return head + middle + tail
