"""Power: what a comparison that found nothing could have found.

How much runs scatter is known from these alone, and the fewer they are the worse. So what other runs would
show departs from the change, in units of the error estimated here, as Student's t does. To take the estimate
for the truth (a noncentral t around it) would promise too much wherever runs happened to agree.
"""

import math

from scipy.special import stdtr, stdtrit

from suite.comparing.welch import Difference

MOST = 100.0  # of a logarithm: no clock tells that from infinity
OFTEN = 0.8  # how often a change must be found for "could have seen it"


def power(change: float, of: Difference, level: float, effect: float) -> float:
    """How often this change (0.05: five percent slower) is reported by runs that scatter like these.

    level: the p-value it must stay below; effect: the least change that is ever reported.
    """
    return float(stdtr(of.freedom, abs(math.log1p(change)) / of.error - needed(of, level, effect)))


def seen(of: Difference, level: float, effect: float) -> float:
    """The change that is reported four times in five."""
    needs = of.error * (needed(of, level, effect) + float(stdtrit(of.freedom, OFTEN)))
    return math.expm1(min(needs, MOST))


def needed(of: Difference, level: float, effect: float) -> float:
    """The t-value from which on a change is reported: significant, and large enough to matter."""
    return max(of.least(level), math.log1p(effect) / of.error)
