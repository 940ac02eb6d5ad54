"""Welch: two sides that may scatter differently, compared by their means of logarithms.

One number a process goes in, never one a sample. Samples of a process share its layout in memory, its place
in the machine's day and its neighbours, so pooling them makes hundreds out of what are five.

One process in ten may have had a bad moment that doubles its time, and a mean with its variance then sees
nothing. So there are two tests, Welch's and Yuen's, which trims a fifth at either end (Biometrika 1974).
The one that knows more precisely is heard, and each has half the level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

FINEST = 1e-4  # relative scatter below which times of four digits say nothing
TRIMMED = 0.2  # at either end
TESTS = (0.0, TRIMMED)  # Welch's and Yuen's: how much each cuts off

Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Difference:
    """head - base of two means of logarithms: middle, its standard error, and degrees of freedom."""

    middle: float
    error: float
    freedom: float
    tests: int = 1  # it was chosen from so many, and each has its share of the level
    runs: tuple[int, int] = (2, 2)  # of base and head

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
    sides = np.asarray(base), np.asarray(head)
    middle, error, freedom = narrowest([estimate(*sides, share) for share in TESTS])
    return Difference(float(middle), float(error), float(freedom), len(TESTS), (len(base), len(head)))


def estimate(base: Numbers, head: Numbers, share: float) -> Numbers:
    """Middle, error and freedom [3, ...] by what is left of the samples [..., n] when that share is cut off
    at either end; Welch's test if nothing is."""
    middles, parts, freedoms = [], [], []
    for side in (base, head):
        count = side.shape[-1]
        cut = int(share * count)
        ordered = np.sort(side, axis=-1)
        kept = ordered[..., cut : count - cut]
        held = np.clip(ordered, kept[..., :1], kept[..., -1:])  # winsorised
        left = kept.shape[-1]
        squares = np.maximum(held.var(axis=-1, ddof=1), FINEST**2) * (count - 1)
        middles.append(kept.mean(axis=-1))
        parts.append(squares / (left * (left - 1)))
        freedoms.append(left - 1)
    error = parts[0] + parts[1]
    whole = sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    return np.stack([middles[1] - middles[0], np.sqrt(error), error**2 / whole])


def narrowest(several: Sequence[Numbers]) -> Numbers:
    """Of estimates [3, ...] the one with the narrowest interval, the tests having equal shares."""
    made = np.stack(several)
    reach = made[:, 1] * stdtrit(made[:, 2], 1 - 0.05 / len(TESTS) / 2)
    return np.take_along_axis(made, reach.argmin(axis=0)[None, None], axis=0)[0]
