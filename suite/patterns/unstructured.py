"""Unstructured: any position may be nonzero, each set of that many equally likely."""

import numpy as np

from suite.pattern import Pattern, Positions, pattern, rounded, sparsity_faults
from suite.patterns.positions import choose, from_flat


@pattern("unstructured@{sparsity}")
class Unstructured(Pattern):
    """Uniformly random positions."""

    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        return sparsity_faults(self.sparsity)

    def count(self, m: int, k: int) -> int:
        return rounded(self.sparsity, m * k)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        return from_flat(choose(m * k, self.count(m, k), np.random.default_rng([seed, 0])), m, k)
