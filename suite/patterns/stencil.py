"""Stencil: a grid of points, each coupled to its neighbours, as partial differential equations leave them."""

from itertools import product

import numpy as np

from suite.pattern import Pattern, Positions, pattern

DIMENSIONS = {5: 2, 9: 2, 7: 3, 27: 3}  # points -> of the grid


@pattern("stencil{points}")
class Stencil(Pattern):
    """5 and 9 points in the plane, 7 and 27 in space, each point its own neighbour.

    The grid is numbered line by line; its side is the smallest whose square or cube holds m points, and where
    m is less than that, the last lines are missing. Nothing is random: the seed draws the values only.
    """

    points: int

    def faults(self, m: int, k: int) -> list[str]:
        said = [] if m == k else [f"{self} couples a grid's points with one another: m = k, not {m} and {k}"]
        if self.points not in DIMENSIONS:
            said.append(f"{self} is not known; there are stencils of 5, 7, 9 and 27 points")
        return said

    def count(self, m: int, k: int) -> int:
        side = self._side(m)
        later = [offset for offset in self._offsets() if step(offset, side) > 0]
        pairs = sum(
            numbers_below(m - step(offset, side), side, [(max(0, -by), side - max(0, by)) for by in offset])
            for offset in later
        )
        return m + 2 * pairs if side > 1 else m

    def positions(self, m: int, k: int, seed: int) -> Positions:
        side = self._side(m)
        index = np.arange(m, dtype=np.int64)
        shape = (side,) * DIMENSIONS[self.points]
        at = np.stack(np.unravel_index(index, shape)).astype(np.int32)
        offsets = self._offsets()
        columns = np.empty((m, len(offsets)), np.int32)
        exists = np.empty((m, len(offsets)), bool)
        for number, offset in enumerate(
            offsets
        ):  # in the order of the coordinates, which is that of the columns
            moved = at + np.array(offset, np.int32)[:, None]
            columns[:, number] = index + step(offset, side)
            exists[:, number] = ((moved >= 0) & (moved < side)).all(axis=0) & (columns[:, number] < m)
        starts = np.concatenate(([0], np.cumsum(exists.sum(axis=1))))
        return starts, columns[exists]

    def _side(self, m: int) -> int:
        power = DIMENSIONS[self.points]
        side = round(m ** (1 / power))
        while side**power < m:
            side += 1
        while side > 1 and (side - 1) ** power >= m:
            side -= 1
        return side

    def _offsets(self) -> list[tuple[int, ...]]:
        """Steps to the neighbours, coordinates ascending."""
        every: list[tuple[int, ...]] = list(product((-1, 0, 1), repeat=DIMENSIONS[self.points]))
        return every if self.points in (9, 27) else [step for step in every if sum(map(abs, step)) <= 1]


def step(offset: tuple[int, ...], side: int) -> int:
    """How far apart neighbours are numbered."""
    distance = 0
    for by in offset:
        distance = distance * side + by
    return distance


def numbers_below(limit: int, base: int, digits: list[tuple[int, int]]) -> int:
    """How many numbers below `limit` have each digit in its range, the highest first."""
    if limit <= 0 or not digits:
        return 0
    (low, high), *rest = digits
    free = 1
    for first, last in rest:
        free *= max(0, last - first)
    whole, part = divmod(limit, base ** len(rest))
    found = max(0, min(whole, high) - low) * free
    return found + (numbers_below(part, base, rest) if low <= whole < high else 0)
