"""Groups: weights that stand together, h x 1 down a strip of rows, 1 x g along a row, or any of four rows.

The values of a group are contiguous, with one column number for all of them. Strips and stretches have a
group where any of its positions holds a nonzero, zeros filled in. Values survive the way there and back, -0.0
too; a stored +0.0 does not, for it looks like the filling. Masks fill nothing in.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from suite.formats.rearranged import inverse
from suite.kernel import Refused
from suite.pattern import Pattern
from suite.patterns.positions import distinct
from suite.sparse import INT32_MOST, Sparse, from_positions

SHORT = 2**16
FOUR = 4  # rows of a strip whose columns are sorted
BITS = 1 << np.arange(FOUR)
BITS_SET = np.array([mask.bit_count() for mask in range(2**FOUR)])
BITMAP = 2**25  # groups up to which marking each that is taken is quicker than sorting those


@dataclass(frozen=True, eq=False)
class Strips:
    """An m x k matrix in strips of `height` rows; strip s of tile t begins at `starts[t * strips + s]`.

    starts: int32[tiles * strips + 1]; columns: uint16 (int32 where depth is over 65536), counted from the
    tile's first; values: [groups, height]; rows: int32[strips * height], which row stands there, -1: none.
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    rows: Tensor
    depth: int  # columns of a tile
    shape: tuple[int, int]

    @property
    def height(self) -> int:
        return self.values.shape[1]

    @property
    def strips(self) -> int:
        return len(self.rows) // self.height

    @property
    def tiles(self) -> int:
        return whole(self.shape[1], self.depth)

    @property
    def value_bytes(self) -> int:
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return self.starts.nbytes + self.columns.nbytes + self.rows.nbytes


@dataclass(frozen=True, eq=False)
class Stretches:
    """An m x k matrix in stretches of `width` columns; a ragged last one is padded with zeros.

    starts: int32[m + 1]; columns: counted in stretches, uint16 (int32 where they are more than 65536);
    values: [stretches, width].
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    shape: tuple[int, int]

    @property
    def width(self) -> int:
        return self.values.shape[1]

    @property
    def value_bytes(self) -> int:
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return self.starts.nbytes + self.columns.nbytes


@dataclass(frozen=True, eq=False)
class Masks:
    """An m x k matrix in strips of four rows, the columns of a strip sorted by which of its rows they meet.

    Segment t * strips + s is what strip s has in tile t. Its columns come by ascending mask, whose bit h is
    the strip's row h, and ascend within a mask.
    column_starts, value_starts: int32[segments + 1]; counts: uint16[segments, 15], columns of each mask;
    columns: uint16 (int32 where depth is over 65536), counted from the tile's first; values: column by
    column, from the upper row to the lower.
    """

    column_starts: Tensor
    value_starts: Tensor
    counts: Tensor
    columns: Tensor
    values: Tensor
    depth: int  # columns of a tile
    shape: tuple[int, int]

    @property
    def strips(self) -> int:
        return whole(self.shape[0], FOUR)

    @property
    def tiles(self) -> int:
        return whole(self.shape[1], self.depth)

    @property
    def value_bytes(self) -> int:
        return self.values.nbytes

    @property
    def metadata_bytes(self) -> int:
        return self.column_starts.nbytes + self.value_starts.nbytes + self.counts.nbytes + self.columns.nbytes


def strips(a: Sparse, height: int, depth: int, order: np.ndarray) -> Strips:
    """`a` in strips of `height` rows, row order[i] at i, and in tiles of `depth` columns."""
    (m, k), rows = a.shape, rows_of(a)
    down, across = whole(m, height), whole(k, depth)
    strip, slot = np.divmod(inverse(order)[rows], height)
    tile, column = np.divmod(a.columns.numpy(), np.int32(depth))
    numbers = (tile.astype(np.int64) * down + strip) * depth + column
    taken, values = gathered(numbers, across * down * depth, slot, height, a.values)
    standing = np.full(down * height, -1, np.int32)
    standing[:m] = order
    return Strips(
        torch.from_numpy(np.searchsorted(taken, np.arange(across * down + 1) * depth).astype(np.int32)),
        narrow(taken % depth, depth),
        values,
        torch.from_numpy(standing),
        depth,
        a.shape,
    )


def unstrips(held: Strips, pattern: Pattern) -> Sparse:
    """The matrix that was put into strips."""
    tile, strip = np.divmod(segments(held.starts), held.strips)
    group, slot = kept(held.values)
    rows = held.rows.numpy().reshape(-1, held.height)[strip[group], slot]
    columns = held.columns.numpy().astype(np.int64) + tile * held.depth
    return put(rows, columns[group], held.values[group, slot], held.shape, pattern)


def stretches(a: Sparse, width: int) -> Stretches:
    """`a` in stretches that begin at multiples of `width`."""
    m, k = a.shape
    across = whole(k, width)
    at, slot = np.divmod(a.columns.numpy(), np.int32(width))
    taken, values = gathered(rows_of(a) * across + at, m * across, slot, width, a.values)
    starts = np.searchsorted(taken, np.arange(m + 1) * across).astype(np.int32)
    return Stretches(torch.from_numpy(starts), narrow(taken % across, across), values, a.shape)


def unstretches(held: Stretches, pattern: Pattern) -> Sparse:
    """The matrix that was put into stretches."""
    group, slot = kept(held.values)
    columns = held.columns.numpy().astype(np.int64)[group] * held.width + slot
    return put(segments(held.starts)[group], columns, held.values[group, slot], held.shape, pattern)


def masks(a: Sparse, depth: int) -> Masks:
    """`a` in strips of four rows and tiles of `depth` columns, sorted by which rows a column meets."""
    (m, k), (strip, slot) = a.shape, np.divmod(rows_of(a), FOUR)
    down, across = whole(m, FOUR), whole(k, depth)
    tile, column = np.divmod(a.columns.numpy(), np.int32(depth))
    numbers = (tile.astype(np.int64) * down + strip) * depth + column
    _, there = gathered(numbers, across * down * depth, slot, FOUR, torch.ones(a.nonzeros, dtype=torch.bool))
    taken, values = gathered(numbers, across * down * depth, slot, FOUR, a.values)
    kinds = taken // depth * 2**FOUR + there.numpy() @ BITS
    order = np.argsort(kinds, kind="stable")
    counts = np.bincount(kinds, minlength=across * down * 2**FOUR).reshape(-1, 2**FOUR)
    in_order = torch.from_numpy(order)
    return Masks(
        ends_of(counts.sum(1)),
        ends_of(counts @ BITS_SET),
        torch.from_numpy(counts[:, 1:].astype(np.uint16)),
        narrow((taken % depth)[order], depth),
        values[in_order][there[in_order]],
        depth,
        a.shape,
    )


def unmasks(held: Masks, pattern: Pattern) -> Sparse:
    """The matrix that was sorted by masks."""
    kinds = np.tile(np.arange(1, 2**FOUR), held.tiles * held.strips)
    mask = np.repeat(kinds, held.counts.numpy().reshape(-1))
    column, slot = (mask[:, None] & BITS).nonzero()
    tile, strip = np.divmod(segments(held.column_starts)[column], held.strips)
    columns = held.columns.numpy().astype(np.int64)[column] + tile * held.depth
    return put(strip * FOUR + slot, columns, held.values, held.shape, pattern)


def count_masks(a: Sparse) -> int:
    """How many columns the strips of four rows have in all."""
    numbers = rows_of(a) // FOUR * a.shape[1] + a.columns.numpy()
    return len(found(numbers, whole(a.shape[0], FOUR) * a.shape[1]))


def count_strip_groups(a: Sparse, height: int, order: np.ndarray) -> int:
    """How many groups of `height` rows hold a nonzero, row order[i] at i."""
    m, k = a.shape
    numbers = inverse(order)[rows_of(a)] // height * k + a.columns.numpy()
    return len(found(numbers, whole(m, height) * k))


def count_stretches(a: Sparse, width: int) -> int:
    """How many stretches of `width` columns hold a nonzero."""
    across = whole(a.shape[1], width)
    return len(found(rows_of(a) * across + a.columns.numpy() // width, a.shape[0] * across))


def whole(size: int, unit: int) -> int:
    """How many units cover a size."""
    return -(-size // unit)


def even(size: int, unit: int) -> int:
    """A unit near the one asked for that covers a size in equal parts, or nearly."""
    return whole(size, max(1, round(size / unit)))


def rows_of(a: Sparse) -> np.ndarray:
    """The row of each nonzero, int64."""
    return np.repeat(np.arange(a.shape[0], dtype=np.int64), a.row_lengths.numpy())


def found(numbers: np.ndarray, among: int) -> np.ndarray:
    """The different ones of numbers below `among`, ascending."""
    if among > BITMAP:
        return distinct(numbers)
    seen = np.zeros(among, bool)
    seen[numbers] = True
    return np.flatnonzero(seen)


def gathered(
    numbers: np.ndarray, among: int, slots: np.ndarray, size: int, values: Tensor
) -> tuple[np.ndarray, Tensor]:
    """The groups taken, ascending, and their values, for nonzeros of so numbered groups and so many slots."""
    taken = found(numbers, among)
    if len(taken) > INT32_MOST:
        raise Refused(f"{len(taken)} groups; they are counted to {INT32_MOST}")
    if among > BITMAP:
        at = np.searchsorted(taken, numbers)
    else:
        places = np.empty(among, np.int32)
        places[taken] = np.arange(len(taken), dtype=np.int32)
        at = places[numbers].astype(np.int64)
    made = torch.zeros(len(taken), size, dtype=values.dtype)
    made.view(-1)[torch.from_numpy(at * size + slots)] = values
    return taken, made


def ends_of(lengths: np.ndarray) -> Tensor:
    """Where each of so many numbers begins, and the end: int32."""
    return torch.from_numpy(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))


def narrow(columns: np.ndarray, among: int) -> Tensor:
    """Columns below `among`, in two bytes where they fit."""
    return torch.from_numpy(columns.astype(np.uint16 if among <= SHORT else np.int32))


def segments(starts: Tensor) -> np.ndarray:
    """For each group, which entry of `starts` it belongs to."""
    return np.repeat(np.arange(len(starts) - 1), starts.diff().numpy())


def kept(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Group and slot of all values but unsigned zeros."""
    group, slot = ((values != 0) | values.signbit()).nonzero(as_tuple=True)
    return group.numpy(), slot.numpy()


def put(
    rows: np.ndarray, columns: np.ndarray, values: Tensor, shape: tuple[int, int], pattern: Pattern
) -> Sparse:
    """The matrix with these values at these positions."""
    order = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[order], np.arange(shape[0] + 1))
    return from_positions(starts, columns[order], values[torch.from_numpy(order)], shape, pattern)
