"""Planted blocks: full blocks whose rows and columns were then shuffled.

It looks unstructured, but a permutation that gathers nonzeros into few blocks can find the blocks again: the
case such permutations are for, with the best possible answer known.
"""

import numpy as np

from suite.pattern import Pattern, Positions, pattern, sparsity_faults
from suite.patterns.block import Block, size_faults
from suite.patterns.positions import from_templates


@pattern("planted{rows}x{columns}@{sparsity}", family="planted blocks")
class Planted(Pattern):
    """A block pattern under a random order of rows and of columns; `blocks` says how many there are."""

    rows: int
    columns: int
    sparsity: float

    @property
    def ordered(self) -> Block:
        """The pattern before it was shuffled."""
        return Block(self.rows, self.columns, self.sparsity)

    def faults(self, m: int, k: int) -> list[str]:
        return size_faults(self, self.rows, self.columns) + sparsity_faults(self.sparsity)

    def blocks(self, m: int, k: int) -> int:
        """How many blocks hold all nonzeros once rows and columns are back in order."""
        return self.ordered.blocks(m, k)

    def count(self, m: int, k: int) -> int:
        return self.ordered.count(m, k)

    def orders(self, m: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Where rows and columns stood before: the planted matrix is ordered[rows][:, columns]."""
        rng = np.random.default_rng([seed, 1])
        return rng.permutation(m), rng.permutation(k)

    def positions(self, m: int, k: int, seed: int) -> Positions:
        rows, columns = self.orders(m, k, seed)
        starts, before = self.ordered.templates(m, k, np.random.default_rng([seed, 0]))
        after = np.argsort(columns)[before]
        keys = np.repeat(np.arange(len(starts) - 1), np.diff(starts)) * k + after
        return from_templates(starts, (np.sort(keys) % k).astype(np.int32), rows // self.rows)
