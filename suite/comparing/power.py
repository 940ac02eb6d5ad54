"""Power: what a comparison that found nothing could have found.

How much runs scatter is known from these alone, and the fewer they are the worse. So what other runs would
show departs from the change, in units of the error estimated here, as Student's t does. To take the estimate
for the truth (a noncentral t around it) would promise too much wherever runs happened to agree.

The error is also the least of several estimates (welch.difference, drift.Drift.told), and the least is too
small more often than any one of them. By how much is drawn.
"""

import math
from functools import cache

import numpy as np
from scipy.special import stdtr, stdtrit

from suite.comparing.welch import TESTS, Difference, Numbers, estimate, narrowest

MOST = 100.0  # of a logarithm: no clock tells that from infinity
OFTEN = 0.8  # how often a change must be found for "could have seen it"
DRAWN = 4000  # comparisons of equal code
CONTROLS = 2  # dense kernels of a case


def power(change: float, of: Difference, level: float, effect: float) -> float:
    """How often this change (0.05: five percent slower) is reported by runs that scatter like these.

    level: the p-value it must stay below; effect: the least change that is ever reported.
    """
    above = abs(math.log1p(change)) / of.error - needed(of, level, effect)
    known = departures(*of.runs)
    return float(np.searchsorted(known, stdtr(of.freedom, above)) / len(known))


def seen(of: Difference, level: float, effect: float) -> float:
    """The change that is reported four times in five."""
    above = float(stdtrit(of.freedom, np.quantile(departures(*of.runs), OFTEN)))
    return math.expm1(min(of.error * (needed(of, level, effect) + above), MOST))


def needed(of: Difference, level: float, effect: float) -> float:
    """The t-value from which on a change is reported: significant, and large enough to matter."""
    return max(of.least(level), math.log1p(effect) / of.error)


@cache
def departures(base: int, head: int) -> Numbers:
    """Where chosen differences of equal code lie in Student's distribution, as shares of it in rising order.

    So many runs a side, told by their times or by their times over dense, by either test. Without the choice
    all shares would be as frequent.
    """
    drawn = np.random.default_rng(0)
    own = [drawn.standard_normal((DRAWN, runs)) for runs in (base, head)]
    over = [side - drawn.standard_normal(side.shape) / CONTROLS**0.5 for side in own]
    several = [estimate(one, other, share) for one, other in (own, over) for share in TESTS]
    middle, error, freedom = narrowest(several)
    shares = stdtr(freedom, middle / error)
    return np.sort(np.concatenate([shares, 1 - shares]))  # neither side is the slower one
