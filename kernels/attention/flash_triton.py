"""Flash attention over blocks in Triton: a tile of queries meets the key blocks that its row lists.

A program keeps a tile of queries, the largest score that each has met, and its sums: of weights, and of
values by weight. Each step loads a tile of keys and one of values, from memory that lies together, so steps
of a pipeline are alike; a block that is left out is never looked at. No score ever leaves the processor.
Powers are those of two, whose scale is the softmax's own: one multiply-add and one power a score.

Under a causal mask, a row's own block is the last of its list, as later ones are left out: what masks single
keys is behind the loop, not in it. A selection's own keys may have any numbers; then it is in it.

Rows start head after head, for the heads in flight share keys and values in L2; within a head long rows
start first, so that the last to finish are short. A selection is taken in the order of the mask that was
there before: what selectors find is about as long, and sorting it would be part of every call.

The largest score begins at -2^30 rather than at minus infinity: keys that stand for nothing, whose bias is
far below, then weigh nothing even where a row meets them first.
"""

from math import sqrt

import torch
import triton
import triton.language as tl
from torch import Tensor

from suite.cuda.tuning import Way, quickest
from suite.kernel import Prepared
from suite.kernels.attention.attention_block import in_turn, own
from suite.selection import Selection
from suite.sparse import Sparse

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-(2.0**30))  # that a score may be
NOTHING = tl.constexpr(-200.0)  # of this power of two, no float32 is left


# Queries and keys of a tile; by the bytes of a number. Products of float32 are not the tensor cores', so
# their operands are in registers.
WAYS = {
    2: (
        *(Way((128, 64), 8, 3), Way((128, 128), 8, 2), Way((128, 64), 4, 3)),
        *(Way((64, 64), 4, 3), Way((64, 64), 4, 2), Way((64, 32), 4, 3)),
        *(Way((32, 32), 2, 3), Way((16, 16), 1, 3)),
    ),
    4: (Way((32, 16), 4, 2), Way((64, 32), 8, 2), Way((32, 32), 4, 2), Way((16, 16), 2, 2)),
}
SMALLEST = {2: 64, 4: 32}  # queries of a tile, where a block has as many
ROOM = 128  # scores and sums of a thread that registers have room for


@triton.jit
def power(x):
    """2^x, x of 0 and less, to the last bit of a float32; the processor's own errs by two bits more."""
    x = tl.maximum(x, NOTHING)
    whole = tl.floor(x + 0.5)
    t = (x - whole) * LN2
    series = 1 + t * (1 / 7)
    for term in tl.static_range(6, 0, -1):
        series = 1 + t * (1 / term) * series
    return series * tl.exp2(whole)


@triton.jit
def step(
    queries,
    k,
    v,
    bias,
    begin,
    root,
    most,
    total,
    sums,
    ranks,
    rank,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The largest scores, the sums of weights and of values, after the keys that begin there as well.

    MASKED: a key is seen by the queries whose rank in their block is its own `rank` at least.
    """
    KEYS: tl.constexpr = rank.shape[0]
    D: tl.constexpr = queries.shape[1]
    keys, deep = begin + tl.arange(0, KEYS), tl.arange(0, D)
    tile = tl.load(k + keys[None, :] * D + deep[:, None])
    scores = tl.dot(queries, tile, input_precision=PRECISION)
    if bias is not None:
        scores += (tl.load(bias + keys) * root)[None, :]
    if MASKED:
        scores = tl.where(rank[None, :] <= ranks[:, None], scores, -float("inf"))
    scale = LOG2E / root
    now = tl.maximum(most, tl.max(scores, 1) * scale)
    below = scores * scale - now[:, None]
    weights = power(below) if queries.dtype == tl.float32 else tl.exp2(below)
    fade = tl.exp2(most - now)
    values = tl.load(v + keys[:, None] * D + deep[None, :])
    sums = tl.dot(weights.to(values.dtype), values, sums * fade[:, None], input_precision=PRECISION)
    return now, total * fade + tl.sum(weights, 1), sums


@triton.jit(do_not_specialize=("across", "there", "share"))
def attend(
    order,
    starts,
    columns,
    q,
    k,
    v,
    bias,
    out,
    across,
    there,
    share,
    root,
    CAUSAL: tl.constexpr,
    LAST: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out = softmax(q k^T / root + bias) v over the pairs of blocks listed: a tile of queries.

    across: query blocks of a head; there: keys of a head; share: heads of q for each of k and v.
    LAST: under a causal mask, whether a row's own block can only be the last of its list.
    """
    PARTS: tl.constexpr = BLOCK // KEYS
    TILES: tl.constexpr = BLOCK // ROWS
    row = tl.load(order + tl.program_id(0) // TILES)
    ranks = tl.program_id(0) % TILES * ROWS + tl.arange(0, ROWS)
    mine = row % across * BLOCK
    shared = tl.cast(row // across // share, tl.int64) * there
    k += shared * D
    v += shared * D
    if bias is not None:
        bias += shared
    place = (tl.cast(row, tl.int64) * BLOCK + ranks)[:, None] * D + tl.arange(0, D)[None, :]
    queries = tl.load(q + place)
    most = tl.full((ROWS,), LOWEST, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, D), tl.float32)
    first, end = tl.load(starts + row), tl.load(starts + row + 1)
    whole = tl.maximum(first, end - 1) if CAUSAL and LAST else end
    for number in range(first * PARTS, whole * PARTS):
        inside = number % PARTS * KEYS
        begin = tl.load(columns + number // PARTS) * BLOCK
        rank = tl.where(begin == mine, inside + tl.arange(0, KEYS), -1)
        most, total, sums = step(
            queries,
            k,
            v,
            bias,
            begin + inside,
            root,
            most,
            total,
            sums,
            ranks,
            rank,
            CAUSAL and not LAST,
            PRECISION,
        )
    if CAUSAL and LAST:
        begin = tl.load(columns + whole, mask=whole < end, other=0) * BLOCK
        upto = tl.where(begin == mine, tl.max(ranks, 0) + 1, BLOCK) * (end - whole)
        for inside in range(0, upto, KEYS):
            rank = tl.where(begin == mine, inside + tl.arange(0, KEYS), -1)
            most, total, sums = step(
                queries, k, v, bias, begin + inside, root, most, total, sums, ranks, rank, True, PRECISION
            )
    answer = sums / tl.where(total == 0, 1, total)[:, None]
    tl.store(out + place, answer.to(out.dtype.element_ty))


def ways(block: int, d: int, size: int) -> list[Way]:
    """Those of whose tiles a block is made, not smaller than it need be, that registers have room for."""
    least = min(block, SMALLEST[size])

    def fits(way: Way) -> bool:
        rows, keys = way.tile
        return least <= rows <= block and keys <= block and rows * (d + keys) <= 32 * way.warps * ROOM

    return [one for one in WAYS[size] if fits(one)]


def executed(a: Sparse, way: Way, block: int, d: int, across: int, last: bool) -> int:
    """FLOPs: of its own block, if that is the last of a list, a tile looks at keys up to its last query."""
    pairs, (rows, keys) = a.nonzeros * block**2, way.tile
    if last:
        at = torch.repeat_interleave(torch.arange(a.shape[0]), a.row_lengths)
        diagonal = int((at % across == a.columns).sum())
        ends = range(rows, block + 1, rows)
        pairs -= diagonal * sum(rows * (block - -(-end // keys) * keys) for end in ends)
    return 4 * d * pairs


def is_last(a: Sparse, causal: bool) -> bool:
    """Whether a row's own block is the last of its list: a selection's own keys may have any numbers."""
    return causal and not (isinstance(a, Selection) and a.k is not None)


def prepare(a: Sparse, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Prepared:
    """Attention of q to k and v over the pairs of blocks that a stores, or that a selection does."""
    heads, n, d = q.shape
    block = heads * n // a.shape[0]
    here = a.to("cpu")
    order = in_turn(here, heads).to(q.device)
    out = torch.empty_like(q)

    def launch(way: Way, a: Sparse, q: Tensor, k: Tensor, v: Tensor) -> None:
        k, v = own(a, k, v)
        rows, keys = way.tile
        attend[(len(order) * (block // rows),)](
            *(order, a.starts, a.columns, q, k, v, a.bias if isinstance(a, Selection) else None, out),
            *(n // block, k.shape[1], heads // len(k), sqrt(d)),
            CAUSAL=causal,
            LAST=is_last(a, causal),
            D=d,
            BLOCK=block,
            ROWS=rows,
            KEYS=keys,
            PRECISION="ieee",
            **way.options,
        )

    keys = own(a, k, v)[0]
    key = ("attention", causal, is_last(a, causal), q.dtype, q.shape, keys.shape, block, a.nonzeros)
    way = quickest(key, ways(block, d, q.element_size()), lambda one: launch(one, a, q, k, v), q)

    def run(q, k, v, found=None):
        launch(way, a if found is None else found, q, k, v)
        return out

    return Prepared(
        run,
        executed=executed(here, way, block, d, n // block, is_last(a, causal)),
        values=0,
        metadata=a.starts.nbytes + a.columns.nbytes + order.nbytes,
        holds=(a.starts, a.columns, order, out),
        note={"way": way},
    )
