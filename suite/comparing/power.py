"""Power: what a comparison that found nothing could have found."""

import math
from functools import lru_cache

from scipy.optimize import brentq
from scipy.special import nctdtr

from suite.comparing.welch import Difference

MOST = 100.0  # of a logarithm: no clock tells that from infinity
OFTEN = 0.8  # how often a change must be found for "could have seen it"


def power(change: float, of: Difference, level: float, effect: float) -> float:
    """How often this change (0.05: five percent slower) is reported, where one stands alone at `level`.

    effect: the least change that is ever reported.
    """
    return beyond(needed(of, level, effect), of.freedom, abs(math.log1p(change)) / of.error)


def seen(of: Difference, level: float, effect: float) -> float:
    """The change that is reported four times in five."""
    needs = of.error * shift(round(needed(of, level, effect), 4), round(of.freedom, 2))
    return math.expm1(min(needs, MOST))


def needed(of: Difference, level: float, effect: float) -> float:
    """The t-value from which on a change is reported: significant, and large enough to matter."""
    return max(of.least(level), math.log1p(effect) / of.error)


def beyond(t: float, freedom: float, centre: float) -> float:
    """How often a noncentral t lies above t: one of the other sign is never that far off."""
    found = float(nctdtr(freedom, centre, t))
    return float(centre > t) if math.isnan(found) else 1 - found  # far out, where it cannot be worked out


@lru_cache(maxsize=4096)
def shift(t: float, freedom: float) -> float:
    """The centre from which on that is often enough."""
    return float(brentq(lambda centre: beyond(t, freedom, centre) - OFTEN, 0, 2 * t + 10))  # pyright: ignore
