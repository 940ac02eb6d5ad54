"""Patch: tiles that are dense, or 2:4 throughout, so that a weight may be anything from 0 to 50 % sparse.

"PATCH: Learnable Tile-level Hybrid Sparsity for LLMs". The sparsity is half the share of 2:4 tiles.
"""

import numpy as np

from suite.pattern import Pattern, Positions, pattern
from suite.patterns.block import Block, size_faults
from suite.patterns.n_of_m import NofM
from suite.patterns.positions import distinct, from_flat, to_flat

HALVED = NofM(2, 4)


@pattern("patch{rows}x{columns}@{share}")
class Patch(Pattern):
    """Uniformly random tiles are 2:4, exact to one tile, and the others dense.

    Ragged edges are as those of blocks; a last group of fewer than four columns as that of 2:4.
    """

    rows: int
    columns: int
    share: float
    ops = ("spmm",)

    def faults(self, m: int, k: int) -> list[str]:
        said = size_faults(self, self.rows, self.columns)
        if self.columns % HALVED.m:
            said.append(f"{self} has tiles of {self.columns} columns; 2:4 needs a multiple of {HALVED.m}")
        if not 0 <= self.share <= 1:
            said.append(f"a share of {self.share:g} is not between 0 and 1")
        return said

    def dense(self) -> Block:
        """The tiles that are dense, as blocks that are kept."""
        return Block(self.rows, self.columns, self.share)

    def count(self, m: int, k: int) -> int:
        total = 0
        for kept, rows, columns, height, width in self.dense().shares(m, k):
            halved = len(rows) * len(columns) - kept
            total += kept * height * width + halved * HALVED.count(height, width)
        return total

    def positions(self, m: int, k: int, seed: int) -> Positions:
        both = [to_flat(*one.positions(m, k, seed), k) for one in (self.dense(), HALVED)]
        return from_flat(distinct(np.concatenate(both)), m, k)
