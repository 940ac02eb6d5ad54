"""Statistics: what visits say together. The unit is the visit: samples within one are correlated.

Measured on a quiet machine, a 95 % interval from the samples of one second covers the truth 15 % of the time;
one across five visits 85 to 93 %. So samples give a visit its median, and only visits give an interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import TypeVar

from scipy.special import stdtrit

LEVEL = 0.95

Visit = TypeVar("Visit")


@dataclass(frozen=True)
class Estimate:
    """A positive quantity across visits. low and high are None with one visit: no interval."""

    middle: float
    low: float | None
    high: float | None
    visits: int

    @property
    def half_width(self) -> float | None:
        """How far the interval reaches to its wider side, as a fraction of the middle."""
        return None if self.high is None else self.high / self.middle - 1


def estimate(values: Sequence[float], level: float = LEVEL) -> Estimate | None:
    """The geometric mean of one value per visit, and a t-interval on the logarithms. None: no visit."""
    if not values:
        return None
    logs = [math.log(value) for value in values]
    middle = fmean(logs)
    if len(logs) == 1:
        return Estimate(values[0], None, None, 1)
    reach = float(stdtrit(len(logs) - 1, (1 + level) / 2)) * stdev(logs, middle) / math.sqrt(len(logs))
    return Estimate(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach), len(logs))


def paired(over: Mapping[Visit, float], under: Mapping[Visit, float]) -> Estimate | None:
    """over / under across the visits both have: what slows a whole visit down cancels out."""
    return estimate([over[visit] / under[visit] for visit in over if visit in under])


def choosing(seconds: Sequence[float]) -> float:
    """Median of the odd samples (the first, the third, ...): what the best of several is chosen by."""
    return median(seconds[0::2])


def reporting(seconds: Sequence[float]) -> float:
    """Median of the even samples. The luck by which a kernel was chosen is not in them."""
    return median(seconds[1::2] or seconds)


def overlap(low: float, high: float, other_low: float, other_high: float) -> bool:
    """Whether two intervals share a value."""
    return low <= other_high and other_low <= high
