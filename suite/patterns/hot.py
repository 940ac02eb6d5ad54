"""Hot: a few rows hold most nonzeros, each as likely in one column as in another.

What neurons do: some fire for every token and most for hardly any, by Zipf's law, so that what a batch of
tokens uses together grows far more slowly than it would if all were alike. With a tenth of all positions
kept, the busiest quarter of 11008 rows has about three quarters of them; of a language model with ReLU, Song
et al. report four fifths ("PowerInfer: Fast Large Language Model Serving with a Consumer-grade GPU", SOSP
2024).
"""

import numpy as np

from suite.pattern import Pattern, Positions, pattern, rounded, sparsity_faults
from suite.patterns.positions import pick


@pattern("hot@{sparsity}", family="hot rows")
class Hot(Pattern):
    """The row of rank r, at a random place, keeps a position with probability c/r, or all it has."""

    ops = ("actmm", "actmm_up")
    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        return sparsity_faults(self.sparsity)

    def count(self, m: int, k: int) -> int:
        return rounded(self.sparsity, m * k)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        rng = np.random.default_rng([seed, 0])
        counts = rng.permutation(drawn(rates(self.count(m, k), m, k), k, self.count(m, k), rng))
        starts = np.concatenate(([0], np.cumsum(counts)))
        columns = np.empty(starts[-1], np.int32)
        for kept in np.unique(counts):
            rows = np.flatnonzero(counts == kept)
            columns[starts[rows][:, None] + np.arange(kept)] = pick(len(rows), int(kept), k, rng)
        return starts, columns


def rates(count: int, m: int, k: int) -> np.ndarray:
    """How likely a row of each rank is to keep a position, float64[m], for so many nonzeros on average."""
    weight = 1 / np.arange(1, m + 1)
    left = count / k - np.arange(m)  # once so many ranks keep all they have
    scale = left / np.cumsum(weight[::-1])[::-1]
    full = int(np.argmax(scale * weight <= 1))
    return np.where(np.arange(m) < full, 1.0, scale[full] * weight)


def drawn(rates: np.ndarray, k: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Nonzeros of each rank, int64[m]: a coin a position, then one more or less until the sum is right."""
    counts = rng.binomial(k, rates)
    while off := count - int(counts.sum()):
        able = np.flatnonzero(counts < k if off > 0 else counts)
        counts[rng.choice(able, min(len(able), abs(off)), replace=False)] += np.sign(off)
    return counts
