"""Tolerated: the highest sparsity at which a model is not worse than dense, as far as its scores can say.

Scores of the same items, dense and sparse, are compared in pairs, by Student's t on their differences. Two
answers, because few items show little:

    most    nothing shows that quality is below. From the highest sparsity downwards each is tested, until
            one is not shown to be below: the chance to miss a sparsity that is as good is 1 - level at most.
    sure    it is shown that quality is not below. From the lowest upwards, until one is not shown: the
            chance to name one that is below is 1 - level at most.

Both are tests in a fixed order that end with the first failure, which is why several sparsities need no
correction. With many items both come to the same where quality is allowed to lose a little; by a threshold
of all that dense has, what is exactly as good is never shown to be.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtrit

from suite.reading.statistics import LEVEL


@dataclass(frozen=True)
class Difference:
    """Quality above the threshold, the mean over items; each bound holds at the level, by itself."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Tolerated:
    """The highest sparsity not shown to be below the threshold, and that shown not to be; None: no such."""

    most: float | None
    sure: float | None
    differences: Mapping[float, Difference]


def tolerated(
    dense: Sequence[float],
    sparse: Mapping[float, Sequence[float]],
    threshold: float = 1.0,
    level: float = LEVEL,
) -> Tolerated:
    """Of the scores of items, dense and by sparsity, higher ones better: how sparse quality lets it be.

    threshold: the share of the dense quality that is enough.
    """
    found = {one: difference(dense, sparse[one], threshold, level) for one in sorted(sparse)}
    most = next((one for one in reversed(found) if found[one].high >= 0), None)
    sure = None
    for one, each in found.items():
        if each.low < 0:
            break
        sure = one
    return Tolerated(most, sure, found)


def difference(dense: Sequence[float], sparse: Sequence[float], threshold: float, level: float) -> Difference:
    """What items score above their share of the dense score. With one item nothing is known of the mean."""
    each = [mine - threshold * its for mine, its in zip(sparse, dense, strict=True)]
    mean = fmean(each)
    if len(each) == 1:
        return Difference(mean, -math.inf, math.inf)
    reach = float(stdtrit(len(each) - 1, level)) * stdev(each, mean) / math.sqrt(len(each))
    return Difference(mean, mean - reach, mean + reach)
