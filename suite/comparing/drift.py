"""Drift: what the machine did between the two sides, told by dense kernels that are the same on both.

Dense kernels share every visit with the sparse ones and take turns with them. Where all of them together
moved, the machine did, and a time says nothing by itself; a time over theirs does. Where they did not, and
merely scatter, a time alone may be known more precisely. So each kernel is told by whichever is, and over
dense if dense moved. To choose by precision costs little: it knows nothing of the difference.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from suite.comparing.side import Logs, Point, Side
from suite.comparing.welch import Difference, difference

MOVED = 0.05  # p below which dense has moved
LEAST = 2  # visits a side that have a scatter

ALONE, OVER_DENSE = "time", "time over dense"


@dataclass(frozen=True)
class Told:
    """How a kernel's change is told: by which quantity, on each side."""

    by: str
    base: Logs
    head: Logs

    @property
    def difference(self) -> Difference:
        return difference(list(self.base.values()), list(self.head.values()))


class Drift:
    """The dense kernels that both sides have alike, for every case."""

    def __init__(self, base: Side, head: Side, alike: Callable[[Point], bool]) -> None:
        self._logs = base.logs, head.logs
        self._dense: dict[tuple, list[Point]] = {}
        for point in base.logs:
            if base.rows[point].first.dense and point in head.logs and alike(point):
                self._dense.setdefault(point.circumstances, []).append(point)
        self.whole = self._whole()

    @property
    def moved(self) -> bool:
        """Whether all of dense taken together did."""
        return self.whole is not None and self.whole.p < MOVED

    def controls(self, point: Point) -> list[Point]:
        """What a kernel is held against: the dense kernels of its case, itself excepted."""
        return [one for one in self._dense.get(point.circumstances, ()) if one != point]

    def told(self, point: Point) -> Told:
        """By what to tell a kernel's change."""
        alone = [logs[point] for logs in self._logs]
        dense = [together([logs[one] for one in self.controls(point)]) for logs in self._logs]
        over = [
            {at: own[at] - rest[at] for at in own if at in rest}
            for own, rest in zip(alone, dense, strict=True)
        ]
        if any(len(side) < max(LEAST, len(own)) for side, own in zip(over, alone, strict=True)):
            return Told(ALONE, *alone)
        both = Told(ALONE, *alone), Told(OVER_DENSE, *over)
        return both[1] if self.moved else min(both, key=lambda one: one.difference.reach())

    def _whole(self) -> Difference | None:
        """Of all dense kernels over all cases."""
        points = [one for some in self._dense.values() for one in some]
        sides = [list(together([logs[one] for one in points]).values()) for logs in self._logs]
        return difference(*sides) if points and min(map(len, sides)) >= LEAST else None


def together(several: Iterable[Logs]) -> dict[Any, float]:
    """The mean of several kernels in each visit, as departures from their own means: one may lack a visit."""
    given = [logs for logs in several if logs]
    middle = fmean(fmean(logs.values()) for logs in given) if given else 0.0
    apart: dict[Any, list[float]] = {}
    for logs in given:
        own = fmean(logs.values())
        for at, log in logs.items():
            apart.setdefault(at, []).append(log - own)
    return {at: middle + fmean(some) for at, some in apart.items()}
