"""Tiled rows: compressed rows cut into chunks of rows and tiles of columns, for products that reuse a cache.

What multiplies a tile touches only that many rows of the other operand, which then stay near. Columns are
counted from the tile's first, so up to 65536 of them fit two bytes. What a row has in a tile is a segment;
the segments of a tile come longest first, so that a processor that guesses how long the next loop runs is
seldom wrong, and a tile that most rows skip costs nothing for those. A row that has more than its share of
all nonzeros is cut into pieces, which several threads may work on.
"""

from ctypes import c_int
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suite import native
from suite.kernel import Refused
from suite.pattern import Pattern
from suite.sparse import INT32_MOST, Sparse, from_positions

SHORT = 2**16
FIRST, LAST = 1 << 15, 1 << 14  # of the segments of a piece: the one that begins its sums, and ends them
MOST_PIECES = LAST  # of a chunk: what the bits below count
PIECE = 4  # what a piece costs beside its nonzeros, counted in nonzeros


@dataclass(frozen=True, eq=False)
class Tiled:
    """An m x k matrix. Tile t of chunk c has the segments segment_starts[c * tiles + t] to the next.

    starts: int64[chunks + 1], nonzeros before a chunk; edges: int64[chunks + 1], pieces before a chunk;
    target: int32[pieces], the row of a piece, or -1 - s for a piece of a cut row, whose sums go to spill s;
    spilled: int32[cut rows, 3]: row, its first spill, how many;
    segments: uint16[segments, 2]: the piece within its chunk with two flags on top, and the length;
    columns: uint16 (int32 where depth is over 65536), from the tile's first; values: the case's dtype.
    """

    starts: Tensor
    edges: Tensor
    target: Tensor
    spilled: Tensor
    segment_starts: Tensor
    segments: Tensor
    columns: Tensor
    values: Tensor
    depth: int  # columns of a tile
    shape: tuple[int, int]

    @property
    def tiles(self) -> int:
        return count(self.shape[1], self.depth)

    @property
    def chunks(self) -> int:
        return len(self.edges) - 1

    @property
    def spills(self) -> int:
        """Rows of sums that the pieces of cut rows need beside the answer."""
        return int(self.spilled[:, 2].sum())

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        """All there is of it."""
        index = (self.starts, self.edges, self.target, self.spilled, self.segment_starts)
        return *index, self.segments, self.columns, self.values

    @property
    def value_bytes(self) -> int:
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return sum(one.nbytes for one in self.arrays) - self.values.nbytes


def count(k: int, depth: int) -> int:
    """How many tiles cover k columns."""
    return max(1, -(-k // depth))


def tiled(
    a: Sparse, depth: int, chunks: int = 1, most: int = MOST_PIECES, longest: int = INT32_MOST
) -> Tiled:
    """`a` in tiles of `depth` columns, in at least so many chunks of equal work, of at most so many pieces.

    Rows of more than `longest` nonzeros are cut.
    """
    if a.nonzeros > INT32_MOST:
        raise Refused(f"{a.nonzeros} nonzeros; tiled rows count to {INT32_MOST}")
    pieces, target, spilled = cut(a, longest)
    edges = shared_out(pieces, chunks, min(most, MOST_PIECES))
    library = native.load(Path(__file__).with_suffix(".cpp"))
    index, tiles = torch.uint16 if depth <= SHORT else torch.int32, count(a.shape[1], depth)
    columns, values = torch.empty(a.nonzeros, dtype=index), torch.empty_like(a.values)
    counts = np.zeros((len(edges) - 1) * tiles + 1, np.int64)
    size, threads = (len(edges) - 1, depth, tiles), c_int(torch.get_num_threads())
    native.bind(library.count, pieces, a.columns, edges, *size, counts[1:], threads)()
    np.cumsum(counts, out=counts)
    segments = torch.empty(int(counts[-1]), 2, dtype=torch.uint16)
    native.bind(
        library[f"fill_{str(index).removeprefix('torch.')}"],
        *(pieces, a.columns, a.values, c_int(values.itemsize)),
        *(edges, *size, counts, segments, columns, values, threads),
    )()
    return Tiled(
        starts=torch.from_numpy(pieces[edges]),
        edges=torch.from_numpy(edges),
        target=torch.from_numpy(target),
        spilled=torch.from_numpy(spilled),
        segment_starts=torch.from_numpy(counts),
        segments=segments,
        columns=columns,
        values=values,
        depth=depth,
        shape=a.shape,
    )


def cut(a: Sparse, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nonzeros before each piece, int64[pieces + 1]; the rows of pieces; and the rows that were cut."""
    lengths = a.row_lengths.numpy()
    parts = np.maximum(1, -(-lengths // longest))
    rows = np.repeat(np.arange(a.shape[0], dtype=np.int32), parts)
    within = np.arange(len(rows)) - np.repeat(parts.cumsum() - parts, parts)
    begin = a.starts.numpy().astype(np.int64)[rows] + within * lengths[rows] // parts[rows]
    several = np.flatnonzero(parts > 1)
    first = parts[several].cumsum() - parts[several]
    target = rows.copy()
    target[parts[rows] > 1] = -1 - np.arange(parts[several].sum(), dtype=np.int32)
    spilled = np.stack((several, first, parts[several]), axis=1).astype(np.int32)
    return np.append(begin, a.nonzeros), target, spilled


def shared_out(pieces: np.ndarray, chunks: int, most: int) -> np.ndarray:
    """Where runs of pieces of about equal work begin, and the end."""
    number = len(pieces) - 1
    work = pieces + PIECE * np.arange(number + 1, dtype=np.int64)
    edges = np.searchsorted(work, np.linspace(0, work[-1], min(number, chunks) + 1))
    edges = np.unique(np.concatenate((edges.clip(0, number), [0, number])))
    inner = [np.arange(low, high, most) for low, high in pairwise(edges)]
    return np.concatenate((*inner, [number])).astype(np.int64)


def untiled(tiled: Tiled, pattern: Pattern) -> Sparse:
    """The matrix that was tiled."""
    (m, k), segments = tiled.shape, tiled.segments.numpy().astype(np.int64)
    rows = tiled.target.numpy().copy()
    for row, first, several in tiled.spilled.tolist():
        rows[np.isin(rows, -1 - np.arange(first, first + several))] = row
    group = np.repeat(np.arange(len(tiled.segment_starts) - 1), tiled.segment_starts.diff().numpy())
    chunk, tile = np.divmod(group, tiled.tiles)
    piece = tiled.edges.numpy()[chunk] + (segments[:, 0] & (LAST - 1))
    row = np.repeat(rows[piece], segments[:, 1])
    columns = tiled.columns.numpy().astype(np.int64) + np.repeat(tile * tiled.depth, segments[:, 1])
    order = np.lexsort((columns, row))
    starts = np.searchsorted(row[order], np.arange(m + 1))
    return from_positions(starts, columns[order], tiled.values[torch.from_numpy(order)], (m, k), pattern)
