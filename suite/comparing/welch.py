"""Welch: two sides that may scatter differently, compared by their means of logarithms.

One number a process goes in, never one a sample. Samples of a process share its layout in memory, its place
in the machine's day and its neighbours, so pooling them makes hundreds out of what are five.

One process in ten may have had a bad moment that doubles its time, and a mean with its variance then sees
nothing. So there are two tests, Welch's and Yuen's, which trims a fifth at either end (Biometrika 1974).
The one that knows more precisely is heard, and each has half the level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, variance

from scipy.special import stdtr, stdtrit

FINEST = 1e-4  # relative scatter below which times of four digits say nothing
TRIMMED = 0.2  # at either end


@dataclass(frozen=True)
class Difference:
    """head - base of two means of logarithms: middle, its standard error, and degrees of freedom."""

    middle: float
    error: float
    freedom: float
    tests: int = 1  # it was chosen from so many, and each has its share of the level

    @cached_property
    def p(self) -> float:
        """How often equal sides would differ this much or more, in any of the tests."""
        return min(1.0, self.tests * 2 * float(stdtr(self.freedom, -abs(self.middle) / self.error)))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        reach = self.reach(level)
        return self.middle - reach, self.middle + reach

    def reach(self, level: float = 0.95) -> float:
        """Half the interval: how precisely the difference is known."""
        return self.least(1 - level) * self.error

    def least(self, level: float) -> float:
        """The t-value from which on p is below this level."""
        return float(stdtrit(self.freedom, 1 - level / self.tests / 2))


def difference(base: Sequence[float], head: Sequence[float]) -> Difference:
    """Of two samples of logarithms, each of two or more: by the test whose interval is the narrower."""
    both = (trimmed(base, head, share) for share in (0.0, TRIMMED))
    return min((replace(one, tests=2) for one in both), key=lambda one: one.reach())


def trimmed(base: Sequence[float], head: Sequence[float], share: float) -> Difference:
    """By means of what is left when that share is cut off at either end; Welch's test if nothing is."""
    middles, parts, freedoms = [], [], []
    for side in (base, head):
        cut = int(share * len(side))
        kept = sorted(side)[cut : len(side) - cut]
        held = [min(max(one, kept[0]), kept[-1]) for one in side]  # winsorised
        squares = max(variance(held), FINEST**2) * (len(side) - 1)
        middles.append(fmean(kept))
        parts.append(squares / (len(kept) * (len(kept) - 1)))
        freedoms.append(len(kept) - 1)
    whole = sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    return Difference(middles[1] - middles[0], math.sqrt(sum(parts)), float(sum(parts) ** 2 / whole))
