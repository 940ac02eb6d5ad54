"""A block-diagonal product in Triton, its rows dealt out to where they are wanted.

A program is a tile of one block's rows and of columns. Row i of block j of a batch is stored at row
(i div part * blocks + j) * part + i mod part. With the rows that a block of one factor and a block of the
next share as `part`, this puts side by side what the next one reads; with 1 it deals answers out in turn.

Bad at: blocks with less than 16 rows or columns, where tensor cores multiply padding; few columns, where a
launch is the time. In float32 there are no tensor cores.
"""

from collections.abc import Callable
from dataclasses import dataclass

import triton
import triton.language as tl

from suite.cuda.tuning import quickest
from suite.kernels.spmm.blocks_triton import LEAST, ways
from suite.kernels.spmm.parts_triton import unit_of
from suite.kernels.spmm.patch_triton import TILES

TALLEST, DEEPEST = 128, 64  # rows of a tile; numbers of a step, 128 bytes of them


@dataclass(frozen=True)
class Bound:
    """One factor's product: `launch(x)` writes it. executed: FLOPs, tiles whole. way: as a note has it."""

    launch: Callable
    executed: int
    way: str


@triton.jit
def multiply(
    values,
    x,
    out,
    blocks,
    rows,
    deep,
    part,
    units,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    DEEP: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """out = diagonal(values) x: of one block, a tile of its rows and of columns."""
    n = units * UNIT
    tiles = tl.cdiv(rows, ROWS)
    block = tl.program_id(0) // tiles
    down = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)
    right = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside, there = down[:, None] < rows, right[None, :] < n
    mine = values + tl.cast(block, tl.int64) * rows * deep
    slab = x + tl.cast(block, tl.int64) * deep * n
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, deep, DEEP):
        at = first + tl.arange(0, DEEP)
        known = inside & (at[None, :] < deep)
        tile = tl.load(mine + down[:, None] * deep + at[None, :], mask=known, other=0.0)
        known = (at[:, None] < deep) & there
        met = tl.load(slab + at[:, None] * n + right[None, :], mask=known, other=0.0)
        sums = tl.dot(tile, met, sums, input_precision="ieee")
    to = (down // part * blocks + block) * part + down % part
    where = tl.cast(to, tl.int64)[:, None] * n + right[None, :]
    tl.store(out + where, sums.to(out.dtype.element_ty), mask=inside & there)


def tile(size, most):
    """The power of two that covers a side, within what a tile may have."""
    return min(most, max(LEAST, triton.next_power_of_2(size)))


def bind(values, part, x, out):
    """The product of blocks [blocks, rows, deep] with x [blocks deep, n], written to out [blocks rows, n]."""
    (blocks, rows, deep), n = values.shape, x.shape[1]
    tall, long, unit = tile(rows, TALLEST), tile(deep, DEEPEST), unit_of(n)

    def launch(way, x):
        (wide,) = way.tile
        multiply[(blocks * -(-rows // tall), -(-n // wide))](
            *(values, x, out, blocks, rows, deep, part, n // unit),
            UNIT=unit,
            ROWS=tall,
            DEEP=long,
            COLUMNS=wide,
            **way.options,
        )

    key = ("diagonal", x.dtype, blocks, rows, deep, part, n)
    way = quickest(key, ways(TILES, n, 32), lambda one: launch(one, x), x)
    (wide,) = way.tile
    covered = blocks * -(-rows // tall) * tall * -(-deep // long) * long * -(-n // wide) * wide
    return Bound(lambda x: launch(way, x), 2 * covered, str(way))
