"""Crossover: from which sparsity on the best sparse kernel beats the best dense one, in words.

Between measured points the logarithm of the speed-up is a straight line in the logarithm of the density: a
kernel whose time is proportional to the nonzeros has exactly that curve. The interval inverts the pointwise
band: it runs from where the upper bounds cross 1 to where the lower bounds do.

A point is clear when its interval excludes 1; with one visit there is none, and the value alone decides.

    always                      faster at every sparsity measured, clearly so at one at least
    from 83 % (81-86)           slower before, faster after; both bounds cross once within what was measured
    between 80 and 90 %         one crossing, but no interval for it: from the last clearly slower point (or
                                the first point) to the first clearly faster one (or the last). With one
                                visit, the points on either side
    none up to 99 %             faster at no sparsity measured
    crosses more than once      clear points change sides twice, or from faster to slower: without zeros to
                                skip no sparse kernel starts ahead, so such a curve must have risen before
    too noisy to say            the values lie on both sides of 1, or all above it, and no point is clear; or
                                the clear points lie on one side, and nothing shows that the curve came from
                                the other, or gets there
    at 50 %: 1.3x, faster       one sparsity was measured; "slower" or "no clear difference" where it is that
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from suite.reading.units import ends, interval, percent, times

Kind = Literal["always", "from", "between", "none", "many", "noisy", "single", "no dense", "no sparse"]

SIDES = {1: "faster", -1: "slower", 0: "no clear difference"}

LEAST_DENSITY = 1e-9  # a matrix without nonzeros has no logarithm


@dataclass(frozen=True)
class Point:
    """The best sparse kernel's speed-up over the best dense one at a sparsity."""

    sparsity: float
    speed_up: float
    low: float | None = None
    high: float | None = None

    @property
    def side(self) -> int:
        """1: clearly faster, -1: clearly slower, 0: its interval holds 1."""
        low = self.speed_up if self.low is None else self.low
        high = self.speed_up if self.high is None else self.high
        return 1 if low > 1 else -1 if high < 1 else 0


@dataclass(frozen=True)
class Crossover:
    """The answer in words; `at` with its interval where there is one; `doubt` qualifies it."""

    kind: Kind
    text: str
    at: float | None = None
    low: float | None = None
    high: float | None = None
    doubt: str = ""

    def __str__(self) -> str:
        return self.text


def crossover(points: Sequence[Point]) -> Crossover:
    """Where the curve through these points, of ascending sparsity, crosses 1."""
    if len(points) == 1:
        return single(points[0])
    first, last = points[0].sparsity, points[-1].sparsity
    sides = [point.side for point in points]
    clear = [side for side in sides if side]
    turns = [after for before, after in pairwise(clear) if before != after]
    if len(turns) > 1 or turns == [-1]:
        return Crossover("many", "crosses more than once")
    above = [point.speed_up > 1 for point in points]
    unclear = [f"{percent(point.sparsity)} %" for point in points if not point.side]
    doubt = f"not clear at {', '.join(unclear)}" if unclear else ""
    if not any(above):
        return Crossover("none", f"none up to {percent(last)} %", low=last, doubt=doubt)
    if not clear:
        return Crossover("noisy", "too noisy to say", doubt=doubt)
    if all(above):
        return Crossover("always", f"always, {percent(first)} to {percent(last)} %", high=first, doubt=doubt)
    at = crossing([(point.sparsity, point.speed_up) for point in points])
    if at is not None and all(point.low is not None for point in points):
        low = crossing([(point.sparsity, point.high or 0) for point in points])
        high = crossing([(point.sparsity, point.low or 0) for point in points])
        if low is not None and high is not None:
            return Crossover("from", f"from {interval(at, low, high)}", at, low, high)
    slower = [point.sparsity for point in points if point.side < 0]
    faster = [point.sparsity for point in points if point.side > 0]
    if (not slower and above[0]) or (not faster and not above[-1]):
        return Crossover("noisy", "too noisy to say", doubt=doubt)
    low, high = (slower or [first])[-1], (faster or [last])[0]
    if not slower:
        doubt = f"clearly slower nowhere; {doubt}"
    elif not faster:
        doubt = f"clearly faster nowhere; {doubt}"
    elif points[0].low is None:
        doubt = "one visit: no interval"
    return Crossover(
        "between", "between {} and {} %".format(*ends(low, high, (1, 2, 3))), at, low, high, doubt
    )


def single(point: Point) -> Crossover:
    """What one sparsity says."""
    text = f"at {percent(point.sparsity)} %: {times(point.speed_up)}, {SIDES[point.side]}"
    return Crossover("single", text, doubt="one sparsity measured")


def crossing(curve: Sequence[tuple[float, float]]) -> float | None:
    """The sparsity at which the curve rises through 1; None unless it does so once and never falls back."""
    turns = [at for at, (a, b) in enumerate(pairwise(curve)) if (a[1] > 1) != (b[1] > 1)]
    if len(turns) != 1 or curve[0][1] > 1:
        return None
    (left, slow), (right, fast) = curve[turns[0]], curve[turns[0] + 1]
    before, after = (math.log(max(1 - sparsity, LEAST_DENSITY)) for sparsity in (left, right))
    share = math.log(slow) / (math.log(slow) - math.log(fast))
    return 1 - math.exp(before + share * (after - before))
