"""V:N:M: N:M above 50 % that sparse tensor cores still take, because V rows share the columns they keep.

Castro et al., "VENOM: A Vectorized N:M Format for Unleashing the Power of Sparse Tensor Cores", SC 2023.
"""

import numpy as np

from suite.pattern import Pattern, Positions, pattern
from suite.patterns.positions import from_equal_rows, pick

COLUMNS = 4  # what a sparse tensor core chooses from


@pattern("{v}:{n}:{m}", family="V:N:M")
class VNofM(Pattern):
    """Of every V rows x M columns four columns are kept, and of these four, N in each row: density N/M.

    Edges may be ragged: a last band of fewer than V rows shares its columns all the same, and a last group of
    fewer than M columns keeps four of them (or all it has) and N in each row (or all it has).
    """

    v: int
    n: int
    m: int

    def faults(self, m: int, k: int) -> list[str]:
        most = min(COLUMNS, self.m)
        said = [] if self.v > 0 else [f"{self} shares columns among {self.v} rows; V is at least 1"]
        if not 0 < self.n <= most:
            said.append(f"{self} keeps {self.n} of {most} columns; V:N:M needs 0 < N <= {most}")
        return said

    def count(self, m: int, k: int) -> int:
        return m * (k // self.m * self.n + min(self.n, k % self.m))

    def positions(self, m: int, k: int, seed: int) -> Positions:
        rng = np.random.default_rng([seed, 0])
        groups, rest = divmod(k, self.m)
        parts = []
        if groups:
            parts.append(self._draw(m, groups, self.m, rng))
        if rest:
            parts.append(self._draw(m, 1, rest, rng) + np.int32(k - rest))
        return from_equal_rows(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))

    def _draw(self, m: int, groups: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Columns of m rows over so many groups of one width."""
        offered = min(COLUMNS, width)
        kept = min(self.n, offered)
        shared = pick(-(-m // self.v) * groups, offered, width, rng).reshape(-1, groups, offered)
        shared += np.arange(0, groups * width, width, dtype=np.int32)[:, None]
        own = pick(m * groups, kept, offered, rng).reshape(m, groups * kept)
        own += np.repeat(np.arange(0, groups * offered, offered, dtype=np.int32), kept)
        made = np.empty_like(own)
        for block, columns in enumerate(shared.reshape(len(shared), -1)):
            rows = slice(block * self.v, (block + 1) * self.v)
            np.take(columns, own[rows], out=made[rows])
        return made
