"""A mixture of attention heads in Triton: scattered products around flash attention of choices side by side.

The products are those of scatter_triton.py: the one before reads tokens where they are, the one behind what
their heads say, and both answer by choice. So queries of a token's choices stand one after the other, and a
tile of the attention between takes neighbours, of as many tokens as that are: choices share every key that is
loaded, and steps are those of flash_triton.py. No token is copied for each of its experts.

Tiles of late tokens, which see most, start first. The host learns nothing of the route, so a call can be
recorded into a graph.
"""

from math import gcd, sqrt

import torch
import triton
import triton.language as tl
from torch import Tensor

from suite.cuda.tuning import Way, quickest
from suite.formats.routing import most, touched
from suite.kernel import Prepared
from suite.kernels.attention.every import LARGEST
from suite.kernels.attention.flash_triton import LOWEST, step
from suite.kernels.attention.flash_triton import ways as tiles
from suite.kernels.moe.scatter_triton import Choices, multiply, ways
from suite.sparse import Sparse


@triton.jit
def attend(
    q,
    k,
    v,
    out,
    n,
    root,
    TOP: tl.constexpr,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """out = softmax(q k^T / root) v of [n * TOP, HEADS, D]: a tile of choices, in one head."""
    tile, head = tl.num_programs(0) - 1 - tl.program_id(0), tl.cast(tl.program_id(1), tl.int64)
    rows = tile * ROWS + tl.arange(0, ROWS)
    tokens = rows // TOP
    place = (rows.to(tl.int64)[:, None] * HEADS + head) * D + tl.arange(0, D)[None, :]
    k += head * n * D
    v += head * n * D
    queries = tl.load(q + place)
    most = tl.full((ROWS,), LOWEST, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, D), tl.float32)
    seen = tile * ROWS // TOP // KEYS * KEYS  # keys that all of them see
    for begin in range(0, seen, KEYS):
        most, total, sums = step(
            queries, k, v, None, begin, root, most, total, sums, tokens, tl.arange(0, KEYS), False, "ieee"
        )
    for begin in range(seen, (tile * ROWS + ROWS - 1) // TOP + 1, KEYS):
        own = begin + tl.arange(0, KEYS)
        most, total, sums = step(
            queries, k, v, None, begin, root, most, total, sums, tokens, own, True, "ieee"
        )
    tl.store(out + place, (sums / total[:, None]).to(out.dtype.element_ty))


def pairs(n: int, top: int, way: Way) -> int:
    """Of queries and keys that the tiles of a head multiply, whole steps."""
    rows, keys = way.tile
    lasts = torch.arange(rows - 1, n * top, rows) // top
    return rows * keys * int((lasts // keys + 1).sum())


def prepare(
    route: Sparse, wq: Tensor, wo: Tensor, x: Tensor, logits: Tensor, k: Tensor, v: Tensor
) -> Prepared:
    """Heads on tokens, for any route of as many choices."""
    (count, d, wide), (heads, n, f), top = wo.shape, k.shape, most(route)
    out = torch.empty_like(x)
    if not top:
        return Prepared(lambda *live: out.zero_(), 0, 0, 0, holds=(out,))
    chosen = Choices(x, count, top)
    q, answers, said = x.new_zeros(n * top, wide), x.new_empty(n * top, wide), x.new_empty(n * top, d)

    def product(way: Way, source: Tensor, weight: Tensor, to: Tensor) -> None:
        """Rows of `source` are tokens', or each a choice's own."""
        how = {"TOP": top if weight is wq else 1, "INPUTS": weight.shape[2], "TURNED": False, "GATED": False}
        chosen.launch(
            multiply, way, weight.shape[1], source, weight, to, FROM_TOKENS=True, TO_CHOICES=True, **how
        )

    def attention(way: Way, k: Tensor, v: Tensor) -> None:
        rows, keys = way.tile
        sizes = {"TOP": top, "HEADS": heads, "D": f, "ROWS": rows, "KEYS": keys}
        attend[(n * top // rows, heads)](q, k, v, answers, n, sqrt(f), **sizes, **way.options)

    def tuned(*operands: Tensor) -> Way:
        key = ("moa", x.dtype, operands[1].shape, n, top)
        there = ways(n * top, count, x.element_size())
        return quickest(key, there, lambda way: product(way, *operands), x)

    chosen.sort(logits)
    enter, leave = tuned(x, wq, q), tuned(answers, wo, said)
    key = ("moa", x.dtype, k.shape, top)
    look = quickest(key, tiles(gcd(n, LARGEST), f, x.element_size()), lambda way: attention(way, k, v), x)

    def run(x: Tensor, logits: Tensor, k: Tensor, v: Tensor) -> Tensor:
        chosen.sort(logits)
        product(enter, x, wq, q)
        attention(look, k, v)
        product(leave, answers, wo, said)
        chosen.add_up(said, out)
        return out

    def executed() -> int:
        products = chosen.executed(enter, wide, d) + chosen.executed(leave, d, wide)
        return products + 4 * wide * pairs(n, top, look)

    return Prepared(
        run,
        executed=executed,
        values=touched(route) * (wq[0].nbytes + wo[0].nbytes),
        metadata=chosen.nbytes,
        holds=(wq, wo, *chosen.holds, q, answers, said, out),
        note={"enter": enter, "attend": look, "leave": leave},
    )
