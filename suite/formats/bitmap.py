"""Bitmap: a bit for each position, and the values of those that are set, packed.

Positions go tile by tile, a strip of tiles after the other, and row by row within a tile: tiles of 1 x k are
rows, tiles of 32 x 2 suit a kernel that takes 32 rows at once. At the edges the bits of a tile are 0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.case import Case
from suite.device import Device
from suite.formats.dense import MOST, gib
from suite.pattern import Pattern
from suite.sparse import Sparse, from_positions

PAST = 64  # bytes after the last value, so that a whole register may be read from any of them
CHUNK = 2**24  # positions laid out at a time


@dataclass(frozen=True, eq=False)
class Bitmap:
    """An m x k matrix in tiles of height x width.

    bits: uint8, the first position in the lowest bit; values: the case's dtype, PAST bytes longer than the
    nonzeros are; starts: int64[strips + 1], where the values of each strip of tiles begin.
    """

    bits: Tensor
    values: Tensor
    starts: Tensor
    height: int
    width: int
    shape: tuple[int, int]

    @property
    def nonzeros(self) -> int:
        return int(self.starts[-1])

    @property
    def positions(self) -> int:
        """Bits, those at the edges too."""
        return 8 * self.bits.numel()

    @property
    def value_bytes(self) -> int:
        return self.nonzeros * self.values.itemsize

    @property
    def metadata_bytes(self) -> int:
        return self.bits.nbytes + self.starts.nbytes + PAST


def bitmap(a: Sparse, height: int, width: int) -> Bitmap:
    """`a` as bits and values; height * width is a multiple of 8."""
    (m, k), nonzeros = a.shape, a.nonzeros
    strips, across = -(-m // height), -(-k // width)
    strip = across * width * height  # positions
    bits = torch.empty(strips * strip // 8, dtype=torch.uint8)
    values = torch.zeros(nonzeros + PAST // a.dtype.itemsize, dtype=a.dtype)
    starts = torch.zeros(strips + 1, dtype=torch.int64)
    step = max(1, CHUNK // strip)
    for first in range(0, strips, step):
        last = min(strips, first + step)
        low, high = int(a.starts[first * height]), int(a.starts[min(last * height, m)])
        at = positions(a, first, last, height, width)
        order = np.full((last - first) * strip, -1, np.int32)
        order[at] = np.arange(high - low, dtype=np.int32)
        there = order >= 0
        bits[first * strip // 8 : last * strip // 8] = torch.from_numpy(np.packbits(there, bitorder="little"))
        values[low:high] = a.values[low:high][torch.from_numpy(order[there])]
        starts[first + 1 : last + 1] = low + torch.from_numpy(
            there.reshape(last - first, strip).sum(1).cumsum()
        )
    return Bitmap(bits, values, starts, height, width, a.shape)


def positions(a: Sparse, first: int, last: int, height: int, width: int) -> np.ndarray:
    """Where the nonzeros of strips first to last (exclusive) stand in the order of the bits."""
    m, k = a.shape
    low, high = first * height, min(last * height, m)
    rows = np.repeat(np.arange(high - low, dtype=np.int64), a.row_lengths[low:high].numpy())
    columns = a.columns[int(a.starts[low]) : int(a.starts[high])].numpy()
    tile = rows // height * -(-k // width) + columns // width
    return (tile * height + rows % height) * width + columns % width


def unbitmap(held: Bitmap, pattern: Pattern) -> Sparse:
    """The matrix that was put into bits and values."""
    (m, k), (height, width) = held.shape, (held.height, held.width)
    there = np.unpackbits(held.bits.numpy(), bitorder="little").nonzero()[0]
    tile, within = np.divmod(there, height * width)
    strip, across = np.divmod(tile, -(-k // width))
    rows, columns = strip * height + within // width, across * width + within % width
    order = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[order], np.arange(m + 1))
    return from_positions(starts, columns[order], held.values[torch.from_numpy(order)], (m, k), pattern)


def too_large(case: Case, _: Device | None = None) -> list[str]:
    """The complaint about a matrix whose bits alone are over the limit."""
    size = case["m"] * case["k"] // 8
    if size <= MOST:
        return []
    return [f"needs a bit for each position, which takes {gib(size)}; the limit is {gib(MOST)}"]
