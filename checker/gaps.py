"""How long a run usually stays silent, in bounded memory."""

from __future__ import annotations

import math
from array import array

_PER_DOUBLING = 4
"""Histogram bins per factor of two, so a quantile is known to within 19 %."""


class Gaps:
    """Seconds between signs of life: a histogram on a logarithmic scale."""

    __slots__ = ("_bins", "_first", "count", "longest")

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self._bins = array("q")
        """How many gaps are in each bin, from bin `_first` on: a few bytes each, since there is one for every run."""
        self._first = 0

    def add(self, seconds: float) -> None:
        """Takes one gap; a clock that stood still or went back says nothing."""
        if not 0 < seconds < math.inf:
            return
        self.count += 1
        self.longest = max(self.longest, seconds)
        bin_ = math.ceil(math.log2(max(seconds, 1e-6)) * _PER_DOUBLING)
        if not 0 <= bin_ - self._first < len(self._bins):
            self._make_room(bin_)
        self._bins[bin_ - self._first] += 1

    def _make_room(self, bin_: int) -> None:
        if not self._bins:
            self._first = bin_
        if bin_ < self._first:
            self._bins = array("q", bytes(8 * (self._first - bin_))) + self._bins
            self._first = bin_
        elif bin_ - self._first >= len(self._bins):
            self._bins.frombytes(bytes(8 * (bin_ - self._first - len(self._bins) + 1)))

    def quantile(self, share: float) -> float:
        """The gap that `share` of all gaps stay within; 0.0 while there are none."""
        left = math.ceil(share * self.count)
        for bin_, gaps in enumerate(self._bins, self._first):
            left -= gaps
            if left <= 0:
                return float(min(2 ** (bin_ / _PER_DOUBLING), self.longest))
        return 0.0
