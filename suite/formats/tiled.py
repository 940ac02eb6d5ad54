"""Tiled rows: compressed rows cut into tiles of so many columns, one tile after the other.

The columns of a tile are counted from its first, so up to 65536 of them fit two bytes. What multiplies a tile
touches only that many rows of the other operand, which then stay in a cache.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.kernel import Refused
from suite.pattern import Pattern
from suite.sparse import INT32_MOST, Sparse, from_positions

SHORT = 2**16


@dataclass(frozen=True, eq=False)
class Tiled:
    """An m x k matrix; entry `starts[t * m + i]` is where row i of tile t begins.

    starts: int32[tiles * m + 1], columns: uint16 (int32 where depth is over 65536), values: the case's dtype.
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    depth: int  # columns of a tile
    shape: tuple[int, int]

    @property
    def tiles(self) -> int:
        return count(self.shape[1], self.depth)

    @property
    def value_bytes(self) -> int:
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return self.starts.nbytes + self.columns.nbytes


def count(k: int, depth: int) -> int:
    """How many tiles cover k columns."""
    return max(1, -(-k // depth))


def tiled(a: Sparse, depth: int) -> Tiled:
    """`a` in tiles of `depth` columns; within a row of a tile the columns keep their order."""
    if a.nonzeros > INT32_MOST:
        raise Refused(f"{a.nonzeros} nonzeros; tiled rows count to {INT32_MOST}")
    m, k = a.shape
    columns = a.columns.numpy()
    tile = columns // np.int32(depth)
    rows = np.repeat(np.arange(m, dtype=np.int64), a.row_lengths.numpy())
    tiles = count(k, depth)
    narrow = tile.astype(np.uint16) if tiles <= SHORT else tile  # NumPy sorts 16-bit numbers by radix
    order = np.argsort(narrow, kind="stable")
    lengths = np.bincount(tile * np.int64(m) + rows, minlength=tiles * m)
    starts = np.zeros(tiles * m + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    local = (columns - tile * np.int32(depth))[order].astype(np.uint16 if depth <= SHORT else np.int32)
    return Tiled(
        torch.from_numpy(starts),
        torch.from_numpy(local),
        a.values[torch.from_numpy(order)],
        depth,
        a.shape,
    )


def untiled(tiled: Tiled, pattern: Pattern) -> Sparse:
    """The matrix that was tiled."""
    m, k = tiled.shape
    lengths = tiled.starts.numpy().astype(np.int64)
    segment = np.repeat(np.arange(tiled.tiles * m), np.diff(lengths))
    tile, rows = np.divmod(segment, m)
    columns = tiled.columns.numpy().astype(np.int64) + tile * tiled.depth
    order = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[order], np.arange(m + 1))
    return from_positions(starts, columns[order], tiled.values[torch.from_numpy(order)], (m, k), pattern)
