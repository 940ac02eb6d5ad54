"""Tiles that are dense or 2:4, in Triton: a panel of rows of the answer, all its tiles one after the other.

Whole tiles go to the tensor cores as they are. Of a halved one two values of every four are loaded and a byte
for two fours, and spread in registers: a number is one of the two where its place says so, else zero. So a
halved tile is 9/16 of a whole one to read, in 16 bits, and as much to multiply: sparse tensor cores, which
Triton does not know, would take half as long. Both kinds are summed up in the same registers.

Bad at: many columns, where multiplying is the cost and nothing is saved; float32, without tensor cores.
"""

import triton
import triton.language as tl

from suite.cuda.tuning import quickest
from suite.formats.patch import patched
from suite.kernel import Prepared
from suite.kernels.spmm.blocks_triton import ways
from suite.kernels.spmm.parts_triton import unit_of

TALLEST, WIDEST = 128, 128  # rows; bytes of a row of a tile

# Columns of a tile, warps of a program, steps on their way at a time.
TILES = ((64, 4, 3), (128, 8, 3), (128, 4, 3), (32, 4, 4), (16, 4, 4))


@triton.jit
def multiply(
    starts,
    columns,
    values,
    half_starts,
    half_columns,
    half_values,
    places,
    b,
    out,
    m,
    k,
    units,
    UNIT: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """out = A b: a panel of A, and a tile of columns. Rows of b are met in tiles of WIDTH."""
    n = units * UNIT
    panel = tl.program_id(0)
    right = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    down, deep = tl.arange(0, HEIGHT), tl.arange(0, WIDTH)
    pairs = tl.arange(0, WIDTH // 8)
    sums = tl.zeros((HEIGHT, COLUMNS), tl.float32)
    for at in range(tl.load(starts + panel), tl.load(starts + panel + 1)):
        before = tl.cast(at, tl.int64) * HEIGHT
        tile = tl.load(values + before * WIDTH + down[:, None] * WIDTH + deep[None, :])
        met = tl.load(columns + at) * WIDTH + deep
        there = (met[:, None] < k) & (right[None, :] < n)
        slab = tl.load(b + met[:, None].to(tl.int64) * n + right[None, :], mask=there, other=0.0)
        sums = tl.dot(tile, slab, sums, input_precision="ieee")
    for at in range(tl.load(half_starts + panel), tl.load(half_starts + panel + 1)):
        before = tl.cast(at, tl.int64) * HEIGHT
        two = tl.load(places + before * (WIDTH // 8) + down[:, None] * (WIDTH // 8) + pairs[None, :])
        both = tl.join(two & 15, two >> 4).reshape(HEIGHT, WIDTH // 4)
        kept = tl.arange(0, WIDTH // 2)
        halves = tl.load(half_values + before * (WIDTH // 2) + down[:, None] * (WIDTH // 2) + kept[None, :])
        first, second = tl.split(halves.reshape(HEIGHT, WIDTH // 4, 2))
        one, other = both & 3, both >> 2
        zero = tl.zeros_like(first)
        even = tl.join(
            tl.where(one == 0, first, tl.where(other == 0, second, zero)),
            tl.where(one == 2, first, tl.where(other == 2, second, zero)),
        )
        odd = tl.join(
            tl.where(one == 1, first, tl.where(other == 1, second, zero)),
            tl.where(one == 3, first, tl.where(other == 3, second, zero)),
        )
        tile = tl.join(even, odd).reshape(HEIGHT, WIDTH)
        met = tl.load(half_columns + at) * WIDTH + deep
        there = (met[:, None] < k) & (right[None, :] < n)
        slab = tl.load(b + met[:, None].to(tl.int64) * n + right[None, :], mask=there, other=0.0)
        sums = tl.dot(tile, slab, sums, input_precision="ieee")
    mine = (panel * HEIGHT + down).to(tl.int64)
    there = (mine[:, None] < m) & (right[None, :] < n)
    tl.store(out + mine[:, None] * n + right[None, :], sums.to(out.dtype.element_ty), mask=there)


def prepare(a, b):
    """A b, in the largest tiles with powers of two as sides of which the pattern's own are made."""
    (m, k), n, pattern = a.shape, b.shape[1], a.pattern
    height = min(pattern.rows & -pattern.rows, TALLEST)
    width = min(pattern.columns & -pattern.columns, WIDEST // b.element_size())
    held = patched(a.to("cpu"), height, width)
    dense, halved = (
        tuple(one.to(b.device) for one in (kind.starts, kind.columns, kind.values, kind.places))
        for kind in (held.dense, held.halved)
    )
    out, unit = b.new_empty(m, n), unit_of(n)

    def launch(way, b):
        (wide,) = way.tile
        multiply[(-(-m // height), -(-n // wide))](
            *(*dense[:3], *halved, b, out, m, k, n // unit),
            UNIT=unit,
            HEIGHT=height,
            WIDTH=width,
            COLUMNS=wide,
            **way.options,
        )

    tiles = len(held.dense.columns), len(held.halved.columns)
    key = ("patch", b.dtype, m, k, n, height, width, tiles)
    way = quickest(key, ways(TILES, n, 32), lambda one: launch(one, b), b)
    (wide,) = way.tile

    def run(b):
        launch(way, b)
        return out

    return Prepared(
        run,
        executed=2 * sum(tiles) * height * width * wide * -(-n // wide),
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(dense, halved, out),
        note={"algorithm": f"{height}x{width}", "halved": tiles[1], "way": way},
    )
