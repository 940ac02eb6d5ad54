"""Blocks in Triton: a panel of rows of the answer, tile by tile, from the blocks of that panel alone.

A program holds the sums of a panel as tall as a block and up to 256 columns wide; each block costs it one
product of the tensor cores, its own values, which lie together, and the rows of the operand below them. A
missing block is never looked at. Blocks are no taller than 128 and no wider than 128 bytes: a larger one is
stored as several, which costs four bytes each and makes the steps of a pipeline alike.

Programs start in order, and whoever is done takes the next: long panels first, so that the last to finish is
not long alone. A panel longer than its share is split, and what its parts sum up to is added by a second
launch. Programs that stay and number their own work would have the same order with a worse end.

The order is also what L2 sees. Of P programs at a time, G panels times P / G tiles of columns, the values of
G panels and P / G slabs of the operand are read: least where both are as large, at G^2 = P tile / (density
height). So panels come in groups of G, and within a group the tile of columns changes last.

The transpose is read through an index by columns, from the values as they are: tiles are turned as they are
loaded, which tensor cores do not mind in 16 bits.
"""

import triton
import triton.language as tl

from suite.cuda.tuning import Way, processors, quickest
from suite.formats.bsr import USUAL, bsr, own
from suite.formats.columns import columns as by_columns
from suite.formats.segments import segments
from suite.kernel import Prepared
from suite.kernels.spmm.parts_triton import Parts, unit_of
from suite.sparse import Sparse

LEAST = 16  # of a side that tensor cores take
TALLEST, WIDEST = 128, 128  # rows; bytes of a row
TALLEST_FLOAT = 64  # rows where there are no tensor cores, whose operands are then all in registers
FEWEST = 8  # blocks that are worth a program
SHARE = 2  # segments no longer than one of so many on each multiprocessor would be
USUAL_TILE = 128  # columns, for the share of a panel before the tile is chosen


# Columns of a tile, warps of a program, blocks on their way at a time.
TILES = (
    *((128, 8, 4), (128, 4, 4), (128, 8, 5), (64, 4, 5), (64, 4, 3), (256, 8, 4)),
    *((32, 4, 6), (32, 4, 3), (16, 4, 6), (16, 4, 3)),
)


@triton.jit
def multiply(
    rows,
    firsts,
    ends,
    columns,
    places,
    values,
    b,
    out,
    partial,
    count,
    shared,
    m,
    k,
    units,
    group,
    UNIT: tl.constexpr,
    HEIGHT: tl.constexpr,
    DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    TURNED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out = A b: a segment of a panel of A, and a tile of columns.

    rows, firsts, ends: of `count` segments, the first `shared` of which leave their sums in `partial`.
    columns: of each block, in blocks of DEPTH; places: where its values stand, if not in this order.
    """
    n = units * UNIT
    tiles = tl.cdiv(n, COLUMNS)
    number = tl.program_id(0)
    before = number // (group * tiles) * group
    beside = tl.minimum(group, count - before)
    segment = before + number % (group * tiles) % beside
    right = number % (group * tiles) // beside * COLUMNS + tl.arange(0, COLUMNS)
    down, deep = tl.arange(0, HEIGHT), tl.arange(0, DEPTH)
    inside = deep[None, :] * HEIGHT + down[:, None] if TURNED else down[:, None] * DEPTH + deep[None, :]
    sums = tl.zeros((HEIGHT, COLUMNS), tl.float32)
    for block in range(tl.load(firsts + segment), tl.load(ends + segment)):
        place = tl.load(places + block) if TURNED else block
        tile = tl.load(values + tl.cast(place, tl.int64) * (HEIGHT * DEPTH) + inside)
        met = tl.load(columns + block) * DEPTH + deep
        there = (met[:, None] < k) & (right[None, :] < n)
        slab = tl.load(b + met[:, None].to(tl.int64) * n + right[None, :], mask=there, other=0.0)
        sums = tl.dot(tile, slab, sums, input_precision=PRECISION)
    if segment < shared:
        mine = (segment * HEIGHT + down).to(tl.int64)
        tl.store(partial + mine[:, None] * n + right[None, :], sums, mask=right[None, :] < n)
    else:
        mine = (tl.load(rows + segment) * HEIGHT + down).to(tl.int64)
        there = (mine[:, None] < m) & (right[None, :] < n)
        tl.store(out + mine[:, None] * n + right[None, :], sums.to(out.dtype.element_ty), mask=there)


def cut(pattern, tallest, widest):
    """The largest blocks with powers of two as sides of which the pattern's own are made; else the usual."""
    sides = tuple(
        min(side & -side, most) for side, most in zip(own(pattern) or USUAL, (tallest, widest), strict=True)
    )
    return sides if min(sides) >= LEAST else USUAL


def ways(tiles, n, usual):
    """Those whose tile is no wider than the answer, and no narrower than it is or than the usual one."""
    whole = max(LEAST, triton.next_power_of_2(n))
    return [Way((wide,), *how) for wide, *how in tiles if min(usual, whole) <= wide <= whole]


def together(share, height, columns, tensor):
    """Panels in a group: see the first lines of this file. `share`: of positions, those in blocks."""
    return max(1, round((processors(tensor) * columns / max(share * height, 1.0)) ** 0.5))


def prepare(a, b, turned=False, precision="ieee"):
    """A b, or with `turned` A^T b, for blocks of A as `cut` has them; `precision` is that of float32."""
    pattern, n = a.pattern, b.shape[1]
    floats = b.element_size() == 4 and precision == "ieee"
    height, depth = cut(pattern, TALLEST_FLOAT if floats else TALLEST, WIDEST // b.element_size())
    held = bsr(a.to("cpu"), height, depth)
    blocks = len(held.columns)
    (m, k), starts, columns, places = a.shape, held.starts, held.columns, held.columns[:0]
    share = blocks * height * depth / max(1, m * k)
    if turned:
        down, right = held.padded
        index = by_columns(Sparse(starts, columns, columns, (down // height, right // depth), pattern))
        starts, columns, places = index.starts, index.rows, index.places
        m, k, height, depth = k, m, depth, height
    tiles = -(-n // USUAL_TILE)
    longest = max(FEWEST, -(-blocks * tiles // (SHARE * processors(b))))
    pieces = segments(starts, longest).to(b.device)
    columns, places, values = (one.to(b.device) for one in (columns, places, held.values))
    out = b.new_empty(m, n)
    parts, unit, count = Parts(pieces, height, out), unit_of(n), len(pieces.rows)

    def launch(way, b):
        (wide,) = way.tile
        multiply[(count * -(-n // wide),)](
            *(pieces.rows, pieces.firsts, pieces.ends, columns, places, values, b, out, parts.partial),
            *(count, pieces.shared, m, k, n // unit, together(share, height, wide, b)),
            UNIT=unit,
            HEIGHT=height,
            DEPTH=depth,
            COLUMNS=wide,
            TURNED=turned,
            PRECISION=precision,
            **way.options,
        )
        parts.add_up()

    key = ("blocks", turned, precision, b.dtype, m, k, n, height, depth, blocks)
    way = quickest(key, ways(TILES, n, 64), lambda one: launch(one, b), b)
    (wide,) = way.tile

    def run(b):
        launch(way, b)
        return out

    index = columns.nbytes + places.nbytes + pieces.metadata_bytes
    return Prepared(
        run,
        executed=2 * held.values.numel() * wide * -(-n // wide),
        values=held.value_bytes,
        metadata=index,
        holds=(pieces, columns, places, values, parts.partial, out),
        note={
            "algorithm": f"{height}x{depth}",
            "way": way,
            "split": len(pieces.split),
        },
    )
