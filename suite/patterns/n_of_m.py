"""N:M: in every aligned group of M neighbours in a row, N are kept. 2:4 is what sparse tensor cores take."""

import numpy as np

from suite.pattern import Pattern, Positions, pattern
from suite.patterns.positions import from_equal_rows, pick


@pattern("{n}:{m}", family="N:M")
class NofM(Pattern):
    """N of every M along K. A last group of fewer than M columns keeps N, or all it has."""

    n: int
    m: int

    def faults(self, m: int, k: int) -> list[str]:
        return [] if 0 < self.n < self.m else [f"{self} keeps {self.n} of {self.m}; N:M needs 0 < N < M"]

    def count(self, m: int, k: int) -> int:
        return m * (k // self.m * self.n + min(self.n, k % self.m))

    def positions(self, m: int, k: int, seed: int) -> Positions:
        rng = np.random.default_rng([seed, 0])
        groups, rest = divmod(k, self.m)
        parts = []
        if groups:
            whole = pick(m * groups, self.n, self.m, rng).reshape(m, groups, self.n)
            whole += np.arange(0, groups * self.m, self.m, dtype=np.int32)[:, None]
            parts.append(whole.reshape(m, -1))
        if rest:
            parts.append(pick(m, min(self.n, rest), rest, rng) + np.int32(k - rest))
        return from_equal_rows(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
