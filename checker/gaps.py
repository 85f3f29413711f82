"""How long a run usually stays silent, in bounded memory."""

from __future__ import annotations

import math

_PER_DOUBLING = 4
"""Histogram bins per factor of two, so a quantile is known to within 19 %."""


class Gaps:
    """Seconds between signs of life: a histogram on a logarithmic scale."""

    __slots__ = ("_bins", "count", "longest")

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self._bins: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Takes one gap; a clock that stood still or went back says nothing."""
        if not 0 < seconds < math.inf:
            return
        self.count += 1
        self.longest = max(self.longest, seconds)
        bin_ = math.ceil(math.log2(max(seconds, 1e-6)) * _PER_DOUBLING)
        self._bins[bin_] = self._bins.get(bin_, 0) + 1

    def quantile(self, share: float) -> float:
        """The gap that `share` of all gaps stay within; 0.0 while there are none."""
        left = math.ceil(share * self.count)
        for bin_ in sorted(self._bins):
            left -= self._bins[bin_]
            if left <= 0:
                return float(min(2 ** (bin_ / _PER_DOUBLING), self.longest))
        return 0.0
