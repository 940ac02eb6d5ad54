"""Banded: a run of neighbouring columns around the diagonal, as in local windows and 1-D physics."""

import numpy as np

from suite.pattern import Pattern, Positions, pattern, rounded, sparsity_faults
from suite.patterns.positions import runs


@pattern("banded@{sparsity}")
class Banded(Pattern):
    """One run a row, centred on the diagonal (scaled where m and k differ), moved inside at the corners.

    Row lengths differ by one at most, so that their sum is exact. There is nothing random in it: the seed
    draws the values only.
    """

    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        return sparsity_faults(self.sparsity)

    def count(self, m: int, k: int) -> int:
        return rounded(self.sparsity, m * k)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        width, more = divmod(self.count(m, k), m)
        rows = np.arange(m + 1, dtype=np.int64)
        starts = rows * width + rows * more // m
        lengths = np.diff(starts)
        firsts = ((2 * rows[:-1] + 1) * k - lengths * m) // (2 * m)
        return starts, runs(np.clip(firsts, 0, k - lengths), lengths).astype(np.int32)
