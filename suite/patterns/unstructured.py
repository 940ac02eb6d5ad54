"""Unstructured: any position may be nonzero, each set of that many equally likely."""

import numpy as np

from suite.pattern import Pattern, Positions, pattern, rounded, sparsity_faults

BITMAP_MOST = 2**28  # positions up to which drawing one number for each is the quickest


@pattern("unstructured@{sparsity}")
class Unstructured(Pattern):
    """Uniformly random positions."""

    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        return sparsity_faults(self.sparsity)

    def count(self, m: int, k: int) -> int:
        return rounded(self.sparsity, m * k)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        flat = choose(m * k, self.count(m, k), np.random.default_rng([seed, 0]))
        rows, columns = np.divmod(flat, k)
        starts = np.searchsorted(rows, np.arange(m + 1))
        return starts, columns.astype(np.int32)


def choose(among: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` distinct numbers below `among`, ascending; every such set is equally likely."""
    if among <= BITMAP_MOST:
        # Tossed coins give a uniform set of a random size; a uniform choice then mends the size.
        chosen = rng.random(among, np.float32) < count / among
        excess = int(chosen.sum()) - count
        if excess:
            candidates = np.flatnonzero(chosen if excess > 0 else ~chosen)
            chosen[rng.choice(candidates, abs(excess), replace=False)] = excess < 0
        return np.flatnonzero(chosen)
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:  # sparse: few are drawn twice
        drawn = np.unique(np.concatenate((drawn, rng.integers(0, among, int((count - len(drawn)) * 1.1) + 16))))
    return np.sort(rng.choice(drawn, count, replace=False))
