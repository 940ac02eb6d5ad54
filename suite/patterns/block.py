"""Block: whole blocks are kept or dropped, so that a kernel finds dense tiles to multiply."""

import numpy as np

from suite.pattern import Pattern, Positions, pattern, rounded, sparsity_faults
from suite.patterns.positions import choose, from_templates, runs


@pattern("block{rows}x{columns}@{sparsity}")
class Block(Pattern):
    """Uniformly random blocks, exact to one block.

    Blocks at a ragged edge count as blocks and hold what is left of them. Inside, right edge, bottom edge and
    corner each keep their own share, so the count of nonzeros does not depend on the seed.
    """

    rows: int
    columns: int
    sparsity: float

    def faults(self, m: int, k: int) -> list[str]:
        return size_faults(self, self.rows, self.columns) + sparsity_faults(self.sparsity)

    def blocks(self, m: int, k: int) -> int:
        """How many blocks are kept."""
        return rounded(self.sparsity, -(-m // self.rows) * -(-k // self.columns))

    def count(self, m: int, k: int) -> int:
        return sum(kept * height * width for kept, _, _, height, width in self.shares(m, k))

    def positions(self, m: int, k: int, seed: int) -> Positions:
        starts, columns = self.templates(m, k, np.random.default_rng([seed, 0]))
        return from_templates(starts, columns, np.arange(m) // self.rows)

    def templates(self, m: int, k: int, rng: np.random.Generator) -> Positions:
        """One row for each row of blocks; its other rows are the same."""
        across = -(-k // self.columns)
        placed = []
        for kept, rows, columns, _, _ in self.shares(m, k):
            at = choose(len(rows) * len(columns), kept, rng)
            down, right = np.divmod(at, max(1, len(columns)))
            placed.append((down + rows.start) * across + right + columns.start)
        return block_rows(np.sort(np.concatenate(placed)), -(-m // self.rows), across, self.columns, k)

    def shares(self, m: int, k: int) -> list[tuple[int, range, range, int, int]]:
        """Corner, bottom, right and inside: blocks kept, their rows and columns, height and width of each."""
        down, bottom = divmod(m, self.rows)
        across, right = divmod(k, self.columns)
        shares, before = [], 0
        for rows, height in ((range(down, down + bool(bottom)), bottom), (range(down), self.rows)):
            for columns, width in (
                (range(across, across + bool(right)), right),
                (range(across), self.columns),
            ):
                upto = before + len(rows) * len(columns)
                kept = rounded(self.sparsity, upto) - rounded(self.sparsity, before)
                shares.append((kept, rows, columns, height, width))
                before = upto
        return shares


def block_rows(flat: np.ndarray, down: int, across: int, width: int, k: int) -> Positions:
    """One compressed row for each row of blocks, from blocks numbered row by row."""
    starts = np.searchsorted(flat, np.arange(down + 1) * across)
    firsts = flat % across * width
    widths = np.minimum(width, k - firsts)
    ends = np.concatenate(([0], np.cumsum(widths)))
    return ends[starts], runs(firsts, widths).astype(np.int32)


def size_faults(pattern: Pattern, rows: int, columns: int) -> list[str]:
    """The complaint about a block without rows or columns."""
    return (
        []
        if rows > 0 and columns > 0
        else [f"{pattern} has blocks of {rows} x {columns}; sides are at least 1"]
    )
