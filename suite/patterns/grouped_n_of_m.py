"""Grouped N:M: N:M whose placements are used equally often, so that rows sorted by placement need no index.

N of M columns can be kept in C(M, N) ways, the placements. A chunk is C(M, N) x G rows; in each of its groups
of M columns, every placement is used by exactly G rows. Which rows these are differs from group to group.

Ivanov et al., "STen: Productive and Efficient Sparsity in PyTorch", 2023 (there n:m:g).
"""

from functools import cache
from math import comb

import numpy as np

from suite.pattern import Pattern, Positions, pattern
from suite.patterns.positions import TABLE_MOST, comb_at_most, from_equal_rows

Placement = tuple[int, ...]
"""The columns of a group that are kept, ascending."""


@pattern("{n}:{m}:g{g}", family="N:M:G")
class GroupedNofM(Pattern):
    """N of every M along K, every placement by G rows of a chunk; `shares` says which.

    Rows may be any number: a last chunk of fewer uses all placements as evenly as it can. Columns are whole
    groups, for fewer than M columns have other placements.
    """

    n: int
    m: int
    g: int

    @property
    def rows(self) -> int:
        """Rows of a chunk."""
        return comb(self.m, self.n) * self.g

    def faults(self, m: int, k: int) -> list[str]:
        if not 0 < self.n < self.m:
            return [f"{self} keeps {self.n} of {self.m}; N:M:G needs 0 < N < M"]
        said = [] if self.g > 0 else [f"{self} uses every placement in {self.g} rows; G is at least 1"]
        if not comb_at_most(self.m, self.n, TABLE_MOST):
            said.append(f"{self} has too many placements to use each in some rows of a chunk")
        if k % self.m:
            said.append(f"{self} has whole groups of {self.m} columns, and {k} are no multiple")
        return said

    def count(self, m: int, k: int) -> int:
        return m * (k // self.m) * self.n

    def positions(self, m: int, k: int, seed: int) -> Positions:
        rng = np.random.default_rng([seed, 0])
        groups = k // self.m
        table = np.array(placements(self.n, self.m), np.int32)
        left = np.arange(0, k, self.m, dtype=np.int32)[:, None]
        made = np.empty((m, groups, self.n), np.int32)
        for first in range(0, m, self.rows):
            rows = min(self.rows, m - first)
            used = np.repeat(np.arange(len(table)), np.diff(shares(rows, len(table))))
            drawn = rng.permuted(np.tile(used, (groups, 1)), axis=1).T
            np.add(table[drawn], left, out=made[first : first + rows])
        return from_equal_rows(made.reshape(m, -1))


@cache
def placements(n: int, m: int) -> tuple[Placement, ...]:
    """All ways to keep n of m in revolving-door order: neighbours differ in one column.

    What multiplies them in this order fetches one row of the other operand for each, and not n.
    """
    if n in (0, m):
        return (tuple(range(n)),)
    with_last = ((*kept, m - 1) for kept in reversed(placements(n - 1, m - 1)))
    return (*placements(n, m - 1), *with_last)


def shares(rows: int, among: int) -> np.ndarray:
    """Where each placement's rows begin among a chunk's sorted ones, and the end: int64[among + 1].

    G rows each in a whole chunk; in a shorter one as evenly as can be, over the whole order.
    """
    return np.arange(among + 1) * rows // among
