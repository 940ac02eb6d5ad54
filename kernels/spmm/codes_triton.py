"""Groups of codes in Triton: each becomes a number of a weight in registers, so 4 or 2 bits are what is read.

After Zeng et al., GQSA, arXiv 2412.17560, which shares work out by kept groups rather than by rows, for rows
keep unequally many. Here rows too long are cut into segments of about as many groups, and segments that run
together are neighbours by length. That is not quite GQSA's: a program's share begins and ends with a row.

A vector is multiplied group by group: kept groups are listed, and lanes run along the list of their row.
Several columns go to tensor cores, for which a tile of rows has to agree on its columns: bits say which
groups of the tile are kept, and of the others zeros are multiplied, though nothing is read. Rows are then too
few programs where the matrix is small, so groups are shared out, and a second launch adds the parts up.

A code becomes a float where it stands: bits from the s-th on are whole numbers in a float of 2^(23 - s).
Only those beyond the 23 bits of a mantissa are shifted.
"""

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from suite.cuda.tuning import Way, processors, quickest
from suite.formats.bsr import whole
from suite.formats.quantized import Quantized, across
from suite.formats.segments import segments
from suite.kernel import Prepared
from suite.kernels.actmm.neurons_triton import PARTS, SIZE, add_up, tile_of
from suite.kernels.spmm.parts_triton import Parts
from suite.kernels.spmm.rows_triton import WARPS, steps
from suite.quantized import GROUP, reach

PIECE = {4: torch.int32, 2: torch.int16}  # of eight codes, by the bits of one
PIECES = 4  # of a group
WORD = 32  # groups of which a word says whether they are kept
LEAST = 64  # groups of a row that are worth a second launch
COUNTED = {torch.uint8: 2**8, torch.uint16: 2**16, torch.int32: 2**31}  # groups of a row that each numbers

# Segments; lanes of each, in all as many as a program has, or Triton would move numbers about; pieces of
# a group that a lane takes; steps unrolled.
VECTOR = (
    *(Way((8, 16, 2, 2), 4), Way((8, 16, 4, 2), 4), Way((4, 32, 2, 2), 4), Way((4, 32, 1, 4), 4)),
    *(Way((4, 32, 4, 1), 4), Way((4, 32, 2, 4), 4), Way((2, 64, 2, 2), 4), Way((2, 64, 1, 4), 4)),
    *(Way((1, 32, 2, 2), 1), Way((2, 32, 2, 2), 2), Way((1, 128, 1, 2), 4), Way((8, 32, 2, 2), 8)),
)
TILES = (  # rows, groups of a step, programs a processor
    *(Way((64, 4, 2), 4, 3), Way((64, 2, 2), 4, 4), Way((64, 4, 1), 4, 4), Way((128, 2, 1), 4, 4)),
    *(Way((128, 4, 1), 8, 3), Way((32, 4, 4), 4, 3), Way((32, 8, 2), 4, 2), Way((16, 8, 4), 4, 2)),
)


@triton.jit
def numbers(pieces, BITS: tl.constexpr):
    """What the eight codes of each piece stand for but for their scale, float32[.., 8] of [..]."""
    pieces, turn = tl.expand_dims(pieces.to(tl.int32), -1), tl.arange(0, 8) * BITS
    beyond = turn > 19
    turn = tl.where(beyond, turn - 12, turn)
    codes = tl.where(beyond, pieces >> 12, pieces) & ((2**BITS - 1) << turn)
    power = (127 + 23 - turn) << 23
    zero = (power | (2 ** (BITS - 1) << turn)).to(tl.float32, bitcast=True)
    return (codes | power).to(tl.float32, bitcast=True) - zero


@triton.jit
def bits_set(word):
    """How many bits are, of words whose last is not."""
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    return (((word + (word >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24


@triton.jit
def multiply_vector(
    rows,
    firsts,
    ends,
    columns,
    pieces,
    scales,
    b,
    out,
    partial,
    count,
    shared,
    k,
    across,
    BITS: tl.constexpr,
    LISTED: tl.constexpr,
    RAGGED: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
    TURNS: tl.constexpr,
    UNROLLED: tl.constexpr,
):
    """out = A b: several segments of rows. Not LISTED: rows have all groups. Lanes take TURNS pieces each.

    The first `shared` of `count` segments leave their sums in `partial`.
    """
    segment = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = segment < count
    row = tl.load(rows + segment, mask=real, other=0)
    first = tl.load(firsts + segment, mask=real, other=0)
    end = tl.load(ends + segment, mask=real, other=0)
    SHARED: tl.constexpr = 4 // TURNS  # lanes that share a group
    lane = tl.arange(0, LANES)
    inner = (lane % SHARED * TURNS)[None, :]
    sums = tl.zeros((ROWS, LANES), tl.float32)
    for at in tl.range(0, tl.max(end - first), LANES // SHARED, loop_unroll_factor=UNROLLED):
        group = first[:, None] + (at + lane // SHARED)[None, :]
        there = group < end[:, None]
        if LISTED:
            column = tl.load(columns + group, mask=there, other=0).to(tl.int32)
        else:
            column = group - row[:, None] * across
        scale = tl.load(scales + group, mask=there, other=0.0).to(tl.float32)
        part = tl.zeros((ROWS, LANES), tl.float32)
        for turn in tl.static_range(TURNS):
            own = numbers(tl.load(pieces + group * 4 + inner + turn, mask=there, other=0), BITS)
            position = (column * 32 + (inner + turn) * 8)[:, :, None] + tl.arange(0, 8)
            inside = there[:, :, None] & (position < k) if RAGGED else there[:, :, None]
            slab = tl.load(b + position, mask=inside, other=0.0).to(tl.float32)
            part += tl.sum(own * slab, 2)
        sums += scale * part
    total = tl.sum(sums, 1)
    tl.store(partial + segment, total, mask=segment < shared)
    tl.store(out + row, total.to(out.dtype.element_ty), mask=real & (segment >= shared))


@triton.jit
def multiply(
    kept,
    places,
    pieces,
    scales,
    b,
    out,
    m,
    k,
    n,
    across,
    marks,
    parts,
    BITS: tl.constexpr,
    LISTED: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
):
    """out [parts, n, m]: of a tile of rows and tokens, the sums over one part of the groups.

    b: [n, k]; kept, places: [m, marks], 32 bits that say which groups are kept and how many are before them.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    part = tl.program_id(2)
    length = tl.cdiv(tl.cdiv(across, STEP), parts) * STEP
    deep = tl.arange(0, STEP * 32)
    sums = tl.zeros((ROWS, TOKENS), tl.float32)
    for at in range(part * length, tl.minimum(across, (part + 1) * length), STEP):
        group = at + tl.arange(0, STEP)
        there = (row < m)[:, None] & (group < across)[None, :]
        if LISTED:
            mark = row * marks + at // 32
            bits = tl.load(kept + mark, mask=row < m, other=0)[:, None]
            turn = (group % 32)[None, :]
            place = tl.load(places + mark, mask=row < m, other=0)[:, None]
            place += bits_set(bits & ((1 << turn) - 1))
            there &= ((bits >> turn) & 1) != 0
        else:
            place = row[:, None] * across + group[None, :]
        piece = place[:, :, None] * 4 + tl.arange(0, 4)
        own = numbers(tl.load(pieces + piece, mask=there[:, :, None], other=0), BITS)
        scale = tl.load(scales + place, mask=there, other=0.0).to(tl.float32)
        tile = (own * scale[:, :, None, None]).to(b.dtype.element_ty)
        position = at * 32 + deep
        inside = (position < k)[:, None] & (token < n)[None, :]
        slab = tl.load(b + token.to(tl.int64)[None, :] * k + position[:, None], mask=inside, other=0.0)
        sums = tl.dot(tl.reshape(tile, (ROWS, STEP * 32)), slab, sums)
    at = (tl.cast(part, tl.int64) * n + token)[None, :] * m + row[:, None]
    tl.store(out + at, sums.to(out.dtype.element_ty), mask=(row < m)[:, None] & (token < n)[None, :])


def pieces_of(held: Quantized) -> Tensor:
    """Codes in the order of their positions, eight to a number, the first in its lowest bits: [groups, 4]."""
    bits, pieces = held.bits, torch.zeros(len(held.codes), PIECES, dtype=PIECE[held.bits])
    for position in range(GROUP):
        turn, word = divmod(position, 2 * bits)
        code = held.codes[:, word].int() >> turn * bits & (2 * reach(bits) - 1)
        pieces[:, position // 8] |= (code << position % 8 * bits).to(pieces.dtype)
    return pieces


def columns_of(held: Quantized) -> Tensor:
    """Which of a row's groups each is that is kept, as narrow as they fit."""
    narrow = next(one for one, most in COUNTED.items() if across(held.shape) <= most)
    return torch.from_numpy(which(held).nonzero()[1]).to(narrow)


def places_of(held: Quantized) -> Tensor:
    """Kept groups before those that each word tells of, int32[m, words of 32 bits]."""
    counts = which(held).reshape(held.shape[0], -1, WORD).sum(2, dtype=np.int64)
    return (held.starts[:-1, None] + torch.from_numpy(counts.cumsum(1) - counts)).int()


def which(held: Quantized) -> np.ndarray:
    """A 1 for each group that is kept, uint8[m, groups in whole words]."""
    return np.unpackbits(held.kept.numpy().view(np.uint8), axis=1, bitorder="little")


def prepare(held: Quantized, b: Tensor) -> Prepared:
    """A b for groups; `b` token-major."""
    return (by_vector if b.shape[1] == 1 else by_tiles)(held, b)


def by_vector(held: Quantized, b: Tensor) -> Prepared:
    m, k = held.shape
    longest = max(LEAST, len(held.codes) // (WARPS * processors(b)))
    cut = segments(held.starts.int(), longest)
    runs, count = cut.to(b.device), len(cut.rows)
    pieces, scales = pieces_of(held).to(b.device), held.scales.to(b.device)
    columns = None if held.kept is None else columns_of(held).to(b.device)
    out = b.new_empty(m, 1)
    parts = Parts(runs, 1, out)

    def launch(way: Way, b: Tensor) -> None:
        height, lanes, turns, unrolled = way.tile
        multiply_vector[(-(-count // height),)](
            *(runs.rows, runs.firsts, runs.ends, columns, pieces, scales, b, out, parts.partial),
            *(count, runs.shared, k, across(held.shape)),
            BITS=held.bits,
            LISTED=columns is not None,
            RAGGED=k % GROUP > 0,
            ROWS=height,
            LANES=lanes,
            TURNS=turns,
            UNROLLED=unrolled,
            **way.options,
        )
        parts.add_up()

    key = ("codes", held.bits, m, k, len(pieces), columns is None)
    way = quickest(key, VECTOR, lambda one: launch(one, b), b)

    def run(b: Tensor) -> Tensor:
        launch(way, b)
        return out

    height, lanes, turns, _ = way.tile
    groups = lanes * turns // PIECES
    listed = 0 if columns is None else columns.nbytes
    return Prepared(
        run,
        executed=2 * GROUP * steps(cut, 1, height, groups) * groups,
        values=pieces.nbytes,
        metadata=scales.nbytes + listed + runs.metadata_bytes,
        holds=(runs, columns, pieces, scales, parts.partial, out),
        note={"way": way, "split": len(runs.split), "scales": f"one a group of {GROUP}"},
    )


def by_tiles(held: Quantized, b: Tensor) -> Prepared:
    (m, k), n, groups, tokens = held.shape, b.shape[1], across(held.shape), tile_of(b.shape[1])
    pieces, scales = pieces_of(held).to(b.device), held.scales.to(b.device)
    kept = places = None
    if held.kept is not None:
        kept = held.kept.view(torch.int32).to(b.device)
        places = places_of(held).to(b.device)
    marks = 0 if kept is None else kept.shape[1]
    out = b.new_empty(n, m)

    def parts_of(way: Way) -> int:
        rows, step, each = way.tile
        others = -(-m // rows) * -(-n // tokens)
        return max(1, min(PARTS, each * processors(b) // others, -(-groups // step)))

    most = max(map(parts_of, TILES))
    partial = b.new_empty(most if most > 1 else 0, n, m, dtype=torch.float32)

    def launch(way: Way, b: Tensor) -> None:
        rows, step, _ = way.tile
        parts = parts_of(way)
        multiply[(-(-m // rows), -(-n // tokens), parts)](
            *(kept, places, pieces, scales, b, out if parts == 1 else partial),
            *(m, k, n, groups, marks, parts),
            BITS=held.bits,
            LISTED=kept is not None,
            TOKENS=tokens,
            ROWS=rows,
            STEP=step,
            **way.options,
        )
        if parts > 1:
            across = triton.next_power_of_2(parts)
            add_up[(-(-n * m // SIZE),)](partial, out, n * m, parts, PARTS=across, SIZE=SIZE)

    key = ("codes", held.bits, m, k, n, len(pieces), kept is None)
    way = quickest(key, TILES, lambda one: launch(one, b), b)

    def run(b: Tensor) -> Tensor:
        launch(way, b)
        return out.t()

    rows, step, _ = way.tile
    return Prepared(
        run,
        executed=2 * GROUP * whole(m, rows) * whole(groups, step) * whole(n, tokens),
        values=pieces.nbytes,
        metadata=scales.nbytes + sum(one.nbytes for one in (kept, places) if one is not None),
        holds=(kept, places, pieces, scales, partial, out),
        note={"way": way, "parts": parts_of(way), "scales": f"one a group of {GROUP}"},
    )
