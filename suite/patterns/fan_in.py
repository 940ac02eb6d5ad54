"""Constant fan-in: every row keeps equally many columns, so no output waits for a longer one."""

import numpy as np

from suite.pattern import Pattern, Positions, pattern, rounded, sparsity_faults
from suite.patterns.positions import from_equal_rows, pick


@pattern("fanin@{sparsity}", family="fan-in")
class FanIn(Pattern):
    """Uniformly random columns, the same number in every row: the nearest whole number to the row's share."""

    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        return sparsity_faults(self.sparsity)

    def count(self, m: int, k: int) -> int:
        return m * rounded(self.sparsity, k)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        return from_equal_rows(pick(m, rounded(self.sparsity, k), k, np.random.default_rng([seed, 0])))
