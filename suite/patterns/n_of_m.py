"""N:M: in every aligned group of M neighbours in a row, N are kept. 2:4 is what sparse tensor cores take."""

import numpy as np

from suite.pattern import Pattern, Positions, pattern
from suite.patterns.positions import from_equal_rows, pick
from suite.registry import Unusable


@pattern("{n}:{m}", family="N:M")
class NofM(Pattern):
    """N of every M along K. A last group of fewer than M columns keeps N, or all it has."""

    n: int
    m: int

    def faults(self, m: int, k: int) -> list[str]:
        return [] if 0 < self.n < self.m else [f"{self} keeps {self.n} of {self.m}; N:M needs 0 < N < M"]

    def count(self, m: int, k: int) -> int:
        return m * (k // self.m * self.n + min(self.n, k % self.m))

    def lacking(self, rows: np.ndarray, columns: np.ndarray, m: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Places, rows and columns, by which these fall short of N in every group: the first that are free.

        Unusable: a group of this m x k matrix has more.
        """
        across = -(-k // self.m)
        room = np.minimum(self.n, k - self.m * np.arange(across))
        held = np.bincount(rows * across + columns // self.m, minlength=m * across)
        short = np.tile(room, m) - held
        if (short < 0).any():
            row, group = divmod(int(short.argmin()), across)
            raise Unusable(f"row {row + 1} keeps more than {self.n} of {self.m} in its group {group + 1}.")
        free = np.ones((m, across * self.m), bool)
        free[rows, columns] = False
        grouped = free.reshape(-1, self.m)
        grouped &= grouped.cumsum(1, dtype=np.int8) <= short[:, None]
        places = np.nonzero(free)
        return places[0], places[1]

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
