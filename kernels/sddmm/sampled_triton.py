"""Sampled blocks in Triton: a program a block; of its product it keeps what the mask stores.

Blocks are taken in bands of rows of blocks, column by column within a band, so that the rows of dy and of x
that a program loads are in L2 from its neighbours. The answer goes where compressed rows have it: a row of a
block knows its first place there, and counts the bits of what is stored from there on.
"""

import triton
import triton.language as tl

from suite.cuda.tuning import Way, quickest
from suite.formats.placed import WORD, placed
from suite.kernel import Prepared
from suite.kernels.spmm.blocks_triton import cut
from suite.kernels.spmm.parts_triton import unit_of

# By the bytes of a number. Products of float32 are not the tensor cores', so their operands are in registers.
SIDES = {2: (128, 128), 4: (64, 64)}  # of the largest block
WARP = {2: 2048, 4: 512}  # sums that a warp has room for
DEEPEST = {2: 64, 4: 16}  # columns of a step
BAND = 8  # rows of blocks


STEPS = ((64, 3), (64, 2), (32, 4), (32, 2), (16, 3), (16, 2))  # columns of one; how many on their way


@triton.jit
def sample(
    rows,
    columns,
    firsts,
    bits,
    dy,
    x,
    out,
    m,
    k,
    units,
    UNIT: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    WORD: tl.constexpr,
):
    """out = dy x^T at what one block stores; operands as `placed` has them."""
    n = units * UNIT
    block = tl.cast(tl.program_id(0), tl.int64)
    down, right, deep = tl.arange(0, HEIGHT), tl.arange(0, WIDTH), tl.arange(0, DEPTH)
    above = (tl.load(rows + block) * HEIGHT + down).to(tl.int64)
    beside = (tl.load(columns + block) * WIDTH + right).to(tl.int64)
    sums = tl.zeros((HEIGHT, WIDTH), tl.float32)
    for begin in range(0, n, DEPTH):
        met = begin + deep
        there = (above[:, None] < m) & (met[None, :] < n)
        left = tl.load(dy + above[:, None] * n + met[None, :], mask=there, other=0.0)
        there = (beside[None, :] < k) & (met[:, None] < n)
        over = tl.load(x + beside[None, :] * n + met[:, None], mask=there, other=0.0)
        sums = tl.dot(left, over, sums, input_precision="ieee")
    line = block * HEIGHT + down
    words = tl.load(bits + line[:, None] * (WIDTH // WORD) + tl.arange(0, WIDTH // WORD)[None, :])
    words = tl.broadcast_to(words[:, :, None], (HEIGHT, WIDTH // WORD, WORD)).reshape(HEIGHT, WIDTH)
    stored = (words >> (right[None, :] % WORD)) & 1
    place = tl.load(firsts + line)[:, None] + tl.cumsum(stored, 1) - stored
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=stored != 0)


def ways(n, size, warps):
    """Columns of dy and x in a step, which is no longer than the sum."""
    most = min(DEEPEST[size], max(16, triton.next_power_of_2(n)))
    return [Way((deep,), warps, stages) for deep, stages in STEPS if deep <= most]


def prepare(mask, dy, x):
    """dy x^T at the stored positions of blocks as `cut` has them."""
    (m, k), n, size = mask.shape, x.shape[1], x.element_size()
    height, width = cut(mask.pattern, *SIDES[size])
    held = placed(mask.to("cpu"), height, width, BAND).to(x.device)
    out, unit, blocks = x.new_empty(mask.nonzeros), unit_of(n), len(held.rows)
    warps = min(8, max(2, height * width // WARP[size]))

    def launch(way, dy, x):
        sample[(blocks,)](
            *(held.rows, held.columns, held.firsts, held.bits, dy, x, out, m, k, n // unit),
            UNIT=unit,
            HEIGHT=height,
            WIDTH=width,
            DEPTH=way.tile[0],
            WORD=min(width, WORD),
            **way.options,
        )

    key = ("sampled", x.dtype, m, k, n, height, width, blocks)
    way = quickest(key, ways(n, size, warps), lambda one: launch(one, dy, x), x)
    (deep,) = way.tile

    def run(dy, x):
        launch(way, dy, x)
        return out

    return Prepared(
        run,
        executed=2 * blocks * height * width * deep * -(-n // deep),
        values=0,
        metadata=held.metadata_bytes,
        holds=(held, out),
        note={"algorithm": f"{height}x{width}", "way": way},
    )
