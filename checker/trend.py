"""Is a curve up from its best, how far, since when, and is it coming back? Shared by the rules that ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from checker.series import Series, noise_of

MAX_SHARE = 1e6
"""Stands for "everything and more" where nothing had been gained."""


@dataclass(frozen=True, kw_only=True)
class Rise:
    """A level above the best level, in numbers."""

    start: float
    best: float
    best_step: int
    level: float
    noise: float
    excursion: float
    """The largest rise above the best so far that went back by itself before this one; the first tenth does not count,
    since many runs jump about before they begin to learn."""
    falling: float
    """How far the level is below its peak since the onset."""
    peak: float
    """The highest single block since the onset, above the best."""
    since_peak: int
    """Blocks since then."""
    blocks: int
    falling_lately: float
    """How far it fell in the second half of the way from that peak: a fall that has ended is no recovery."""
    noise_now: float
    """Noise of the last values alone."""
    wander: float
    """How far the curve bends back and forth over a tenth of its way to the onset: the noise of a slow random walk,
    which the noise between neighbours does not show."""
    falling_now: float
    """How far the level fell over the last dozen raw values."""
    onset_row: int
    onset_step: int
    blocks_since_onset: int

    @property
    def excess(self) -> float:
        return self.level - self.best

    @property
    def gained(self) -> float:
        return max(self.start - self.best, 0.0)

    @property
    def lost_share(self) -> float:
        """The part of what had been gained that is lost."""
        return min(self.excess / self.gained, MAX_SHARE) if self.gained else MAX_SHARE

    @property
    def recovering(self) -> bool:
        """Whether the curve is on its way back: it fell by more than noise does, and fast enough.

        Fast enough means that a quarter of the excess went in the second half of the time since its peak, or that it
        came down from a far higher peak in the last tenth of the run. A fall that has come to rest is no recovery.
        """
        if self.falling_now > max(0.1 * self.excess, 2 * self.noise_now):
            return True
        if self.excess < 0.2 * self.peak and self.since_peak < 0.1 * self.blocks:
            return True
        return self.falling_lately > max(0.25 * self.excess, self.noise_now)

    @property
    def remains(self) -> bool:
        """Whether it is what is left of a far higher peak, which has not been over for a quarter of the curve."""
        return self.excess < 0.2 * self.peak and self.since_peak < 0.25 * self.blocks

    def evidence(self) -> dict[str, float | int]:
        return {
            "start": self.start,
            "best": self.best,
            "best_step": self.best_step,
            "level": self.level,
            "lost_share": self.lost_share,
            "noise": self.noise,
            "wandering": self.wander,
            "largest_recovered_excursion": self.excursion,
        }

    def against(self) -> tuple[str, ...]:
        """What speaks for a harmless rise."""
        told = []
        if self.falling > self.noise:
            told.append(f"the level is {self.falling:.4g} below its highest since then")
        if self.excursion > 0:
            told.append(f"an earlier rise of {self.excursion:.4g} went back by itself")
        return tuple(told)


def rise(series: Series, era: int, *, width: int, min_values: int, over_best: float = 0.0) -> Rise | None:
    """The rise of `series` above its best since block `era`, seen through a running median of `width` blocks.

    Returns:
        None while there are fewer than `min_values` blocks, or when the level is not above the best by `over_best` of
        it (for curves that are positive).
    """
    levels = series.levels[era:] if era else series.levels
    if len(levels) < min_values:
        return None
    level, floor = series.level(width), min(levels)
    if level <= floor or (floor > 0 and level < (1 + over_best) * floor):
        return None  # no smoothed best can lie under the lowest block, so most rows need no more than this
    smooth = series.smooth(width)[era:]
    best = min(smooth)
    at = smooth.index(best)
    excess = level - best
    if not 0 < excess < math.inf:
        return None
    onset = _onset(smooth, at, best + excess / 4)
    noise = max(series.spread(era, era + max(at, min_values) + 1), series.noise() / 4, abs(best) * 1e-6)
    peak = max(range(onset, len(smooth)), key=smooth.__getitem__)
    middle = (peak + len(smooth) - 1) // 2
    highest = max(range(onset, len(levels)), key=levels.__getitem__)
    return Rise(
        start=max(smooth[: max(1, width // 2)]) if era else _start(series),
        best=best,
        best_step=series.steps[era + at],
        level=level,
        noise=noise,
        excursion=_excursion(smooth[onset // 10 : onset]),
        falling=smooth[peak] - level,
        peak=levels[highest] - best,
        since_peak=len(levels) - 1 - highest,
        blocks=len(levels),
        falling_lately=smooth[middle] - level,
        noise_now=series.noise(),
        wander=noise_of(series.smooth()[era : era + onset + 1 : max(1, onset // 10)]),
        falling_now=series.level_before(7) - series.level(),
        onset_row=series.rows[era + onset],
        onset_step=series.steps[era + onset],
        blocks_since_onset=len(smooth) - onset,
    )


def _start(series: Series) -> float:
    """The level at the start, taken high: a run that learns fast leaves it within its first rows."""
    usual, first = series.start(), series.levels[0]
    return max(usual, first) if abs(first) < 10 * abs(usual) else usual


def _onset(smooth: Sequence[float], best_at: int, line: float) -> int:
    """The first block from which the curve stays above `line`."""
    index = len(smooth) - 1
    while index > best_at + 1 and smooth[index - 1] > line:
        index -= 1
    return index


def _excursion(smooth: Sequence[float]) -> float:
    """The largest rise above the best so far of which half went back."""
    best, peak, largest = math.inf, 0.0, 0.0
    for value in smooth:
        best = min(best, value)
        above = value - best
        peak = max(peak, above)
        if above < peak / 2:
            largest, peak = max(largest, peak), above
    return largest
