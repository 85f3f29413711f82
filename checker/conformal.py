"""How much must be true of past runs so that something can be promised about the next: split conformal risk control.

Source: Angelopoulos, Bates, Fisch, Lei and Schuster, "Conformal Risk Control" (arXiv 2208.02814), theorem 1, for a loss
that is 1 for a run that ended well and would have been killed, else 0, and falls as caution grows. For such a loss it
is the split conformal quantile of Vovk, Gammerman and Shafer ("Algorithmic Learning in a Random World", 2005) and Lei,
G'Sell, Rinaldo, Tibshirani and Wasserman (2018). No distribution is assumed; that the next run and the past ones are
exchangeable is. The probability is over past and next run together. What holds for one given past, with a confidence,
is Vovk, "Conditional validity of inductive conformal predictors" (2012): there the runs must be independent as well.

A rate is a `Fraction` all the way, since with floats 0.07 times 100 allows one run fewer than 7 of 100 does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def needed(rate: Fraction) -> int:
    """How many past runs it takes to promise `rate`, at best: 99 for one in a hundred."""
    return math.ceil(1 / rate) - 1


def allowed(runs: int, rate: Fraction) -> int:
    """How many of `runs` past ones may be killed under a promise of `rate`; -1 when they are too few for any.

    The next run counts as one more that may be killed: (killed + 1) / (runs + 1) must not exceed the rate.
    """
    return math.floor(rate * (runs + 1)) - 1


def promisable(runs: int, killed: int = 0) -> Fraction:
    """The smallest rate that `runs` past ones of which `killed` would be killed can promise."""
    return Fraction(killed + 1, runs + 1)


def score(killed: Sequence[bool]) -> int:
    """The first place on a grid of rising caution from which on a run is left alone; its length when there is none.

    A run counts as killed wherever it is killed at any greater caution too: so the loss falls by construction, also
    where rules are not nested (a stricter limit may find another onset, say).
    """
    return max((place + 1 for place, was in enumerate(killed) if was), default=0)


def killed_at(scores: Sequence[int], place: int) -> int:
    """How many runs count as killed at this place of the grid."""
    return sum(score > place for score in scores)


def fit(scores: Sequence[int], rate: Fraction, places: int) -> int | None:
    """The first of `places` on the grid at which no more runs than allowed are killed; None where there is none.

    Behind the last place stands "kill nothing", with a loss of 0: choosing it is what None means, and what the theorem
    needs at the end of its grid.
    """
    may = allowed(len(scores), rate)
    return next((place for place in range(places) if may >= 0 and killed_at(scores, place) <= may), None)
