"""Turning: up to where something pays, or from where on: a ratio against a quantity that is no sparsity.

Tokens of a call, or how unevenly they go. The rules are those of suite.reading.crossover, to which the
quantity is shown as a density: between measured points the logarithm of the ratio is a straight line in that
of the quantity, and a point is clear when its interval excludes 1.

    to the largest measured, 64 tokens      above 1 everywhere; if not clearly, it says until where
    up to 8.3 tokens (7.1-9.6)              above before, below after; both bounds cross once
    up to about 5.6 tokens (between 4 and 8)    no interval for it: the clear points on either side
    from 5.6 tokens on                      the other way round, and so for all of these
    never                                   above 1 nowhere
    turns more than once, too noisy to say  as of a crossover
    at 8 tokens: 1.3x, faster               one value was measured
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from statistics import geometric_mean
from typing import Literal

from suite.reading.crossover import SIDES, Crossover, Point, crossover
from suite.reading.frame import Rows
from suite.reading.units import times

Kind = Literal["always", "up to", "from", "never", "many", "noisy", "single", "nothing"]


@dataclass(frozen=True)
class Measured:
    """A ratio at a value of the quantity, with its interval if it has one."""

    at: float
    ratio: float
    low: float | None = None
    high: float | None = None

    def dense(self, density: float) -> Point:
        """As the point of a curve against sparsity."""
        return Point(1 - density, self.ratio, self.low, self.high)

    @property
    def side(self) -> int:
        """1: clearly above 1, -1: clearly below, 0: its interval holds 1."""
        return self.dense(1).side


@dataclass(frozen=True)
class Turning:
    """The answer in words; `at`, where it turns, with the values between which it does so for sure."""

    kind: Kind
    text: str
    verdict: bool | None  # clearly above 1 somewhere; clearly below 1 everywhere; None: one cannot say
    at: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return self.text


def measured(rows: Rows, at: str, column: str) -> list[Measured]:
    """What `column` is at every value of the column `at`, ascending: cases that share one are put together.

    By their geometric mean and widest bounds, as suite.reading.curves does with cases of one sparsity.
    """
    found: dict[float, list[tuple[float, float, float]]] = defaultdict(list)
    columns = (rows[name].tolist() for name in (at, column, f"{column}_low", f"{column}_high"))
    for value, *ratio in zip(*columns, strict=True):
        if not (isnan(value) or isnan(ratio[0])):
            found[round(value, 4)].append(tuple(ratio))
    return [together(value, found[value]) for value in sorted(found)]


def together(at: float, ratios: Sequence[tuple[float, float, float]]) -> Measured:
    """Ratios with their intervals as one; without an interval if one of them has none."""
    middles, lows, highs = zip(*ratios, strict=True)
    clear = not any(map(isnan, lows))
    return Measured(at, geometric_mean(middles), min(lows) if clear else None, max(highs) if clear else None)


def turning(points: Sequence[Measured], unit: str = "") -> Turning:
    """Where the curve through these points, of ascending values, passes 1. unit: of one of them."""
    if not points:
        return Turning("nothing", "not measured", None)
    least, most = points[0].at, points[-1].at
    falls = crossover([one.dense(one.at / most) for one in reversed(points)])
    if falls.kind not in ("many", "noisy"):
        at, low, high = (most * (1 - end) for end in known(falls))
        return told(falls, points, unit, at, low, high)
    rises = crossover([one.dense(least / one.at) for one in points])
    if rises.kind == "many":
        return Turning("many", "turns more than once", verdict(points))
    at, low, high = (least / (1 - end) for end in known(rises))
    return told(rises, points, unit, at, low, high, rising=True)


def known(found: Crossover) -> tuple[float, float, float]:
    """The sparsity of a crossover and its two ends; where one is not told, what stands for it."""
    low, high = (0.0 if end is None else end for end in (found.low, found.high))
    return (low if found.at is None else found.at), low, high


def told(
    found: Crossover,
    points: Sequence[Measured],
    unit: str,
    at: float,
    low: float,
    high: float,
    rising: bool = False,
) -> Turning:
    """A crossover in the words of the quantity; its ends are those of the quantity by now."""
    if found.kind == "single":
        (point,) = points
        text = f"at {said(point.at, unit)}: {times(point.ratio)}, {SIDES[point.side]}"
        return Turning("single", text, verdict(points))
    if found.kind == "always":
        clear = [point.at for point in points if point.side > 0]
        until = f", clearly to {number(clear[-1])}" if clear and clear[-1] < points[-1].at else ""
        text = f"to the largest measured, {said(points[-1].at, unit)}{until}"
        return Turning("always", text, verdict(points))
    if found.kind == "none":
        return Turning("never", "never", verdict(points))
    if found.kind == "noisy":
        return Turning("noisy", "too noisy to say", verdict(points))
    low, high = sorted((low, high))
    digits = 2 if number(low) != number(high) else 3
    below, above, middle = number(low, digits), number(high, digits), said(at, unit, digits)
    if found.kind == "from":
        ends = f" ({below}-{above})"
    elif found.at is None:
        middle, ends = f"between {below} and {said(high, unit)}", ""
    else:
        middle, ends = f"about {middle}", f" (between {below} and {above})"
    where = None if found.at is None else at
    if rising:
        return Turning("from", f"from {middle} on{ends}", verdict(points), where, low, high)
    return Turning("up to", f"up to {middle}{ends}", verdict(points), where, low, high)


def verdict(points: Sequence[Measured]) -> bool | None:
    """Whether any point is clearly above 1, or all are clearly below it."""
    sides = {point.side for point in points}
    return True if 1 in sides else False if sides == {-1} else None


def said(value: float, unit: str, digits: int = 2) -> str:
    """A value with its unit: 8 tokens."""
    return number(value, digits) + (f" {unit}{'' if value == 1 else 's'}" if unit else "")


def number(value: float, digits: int = 2) -> str:
    """Whole as it is, and else so many digits: 1,024, 8.3, 640."""
    if abs(value - round(value)) < 1e-9:
        return f"{round(value):,}"
    return f"{value:#.{digits}g}".rstrip(".") if value < 99.5 else f"{float(f'{value:.{digits}g}'):,.0f}"
