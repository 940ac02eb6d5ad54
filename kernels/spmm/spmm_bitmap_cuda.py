"""Bitmap on tensor cores: a bit for each position and the nonzeros packed, spread in registers.

A weight of 16 bits takes density + 1/16 of its dense size to move, and all of a dense product to multiply.
64 rows of the answer are a block's; where such blocks are too few to keep the GPU busy, columns of the weight
are shared out and the sums gathered by a second launch. The idea is that of SpInfer (EuroSys 2025).

Bad at: more than 64 columns, which it does not take: there multiplying is the cost, and a dense product
spreads nothing; above 90 % sparsity, where the bits of zeros are much of what is read.
"""

from pathlib import Path

import numpy as np
import torch

from suite.cuda import launch, nvrtc
from suite.cuda.launch import LIVE, Launch
from suite.formats.bitmap import bitmap, too_large
from suite.formats.bsr import whole
from suite.kernel import Prepared, Refused, kernel
from suite.sparse import INT32_MOST

SOURCE = Path(__file__).with_suffix(".cu")
TILE, ROWS, WARPS, DEEP, STAGES, THREADS = 8, 16, 4, 64, 4, 128  # as in the source
COLUMNS = (8, 16, 32, 64)
RESIDENT = 3  # blocks a multiprocessor should have
SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(
    1, dtype=np.uint8
)  # bits of each byte


def shared_bytes(columns):
    """Of the stages: for each warp its bits and room for values, and the rows of b, eight numbers apart."""
    words, room = 2 * DEEP // TILE, TILE * DEEP + 8
    return STAGES * (WARPS * (8 * words + 2 * 2 * room) + 2 * DEEP * (columns + 8))


def steps_of(held):
    """Bits as words int64[groups of 16 rows, steps, halves, tiles], and where values begin, int32[.., 2]."""
    m, k = held.shape
    strips, across = -(-m // TILE), -(-k // TILE)
    groups, steps = -(-m // ROWS), -(-k // DEEP)
    words = torch.zeros(2 * groups, steps * DEEP // TILE, dtype=torch.int64)
    words[:strips, :across] = held.bits.view(torch.int64).view(strips, across)
    counts = SET[words.numpy().view(np.uint8)].reshape(2 * groups, steps, -1).sum(2)
    bounds = np.zeros((2 * groups, steps + 1), np.int64)
    bounds[:, 1:] = counts.cumsum().reshape(counts.shape)
    bounds[1:, 0] = bounds[:-1, -1]
    bounds = bounds.reshape(groups, 2, steps + 1).transpose(0, 2, 1).astype(np.int32)
    words = words.view(groups, 2, steps, -1).transpose(1, 2).contiguous()
    return words, torch.from_numpy(np.ascontiguousarray(bounds))


def shares_of(blocks, steps, processors, read, answer):
    """How many blocks share the columns: as keep all busy, while gathering costs little beside `read` bytes.

    answer: numbers of it; each share writes and reads them in float32.
    """
    return max(1, min(-(-RESIDENT * processors // blocks), steps, read // (2 * 8 * answer)))


def refuse(case, device):
    said = [*nvrtc.missing(), *too_large(case)]
    if case["n"] > max(COLUMNS):
        said.append(f"takes at most {max(COLUMNS)} columns, got {case['n']}")
    return said


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("bfloat16", "float16"),
    isa=("sm_80",),
    refuse=refuse,
    ids=("endor", "squarehead"),
)
def spmm_bitmap_cuda(a, b):
    """A bitmap and packed values, spread for tensor cores, in CUDA C++."""
    if a.nonzeros > INT32_MOST:
        raise Refused(f"{a.nonzeros} nonzeros; they are counted to {INT32_MOST}")
    (m, k), n, device = a.shape, b.shape[1], b.device
    held = bitmap(a.to("cpu"), TILE, TILE)
    words, bounds = (one.to(device) for one in steps_of(held))
    values = held.values.to(device)
    columns, steps = next(one for one in COLUMNS if n <= one), words.shape[1]
    blocks = -(-m // (ROWS * WARPS))
    read = words.nbytes + bounds.nbytes + held.value_bytes
    shares = shares_of(blocks, steps, launch.processors(device), read, m * n)
    partial = torch.empty(shares if shares > 1 else 0, m, n, dtype=torch.float32, device=device)
    out = b.new_empty(m, n)
    dtype = str(b.dtype).removeprefix("torch.")
    launches = [
        Launch(
            f"spmm_{dtype}_{columns}{'' if n % 8 == 0 else '_ragged'}",
            (blocks, shares, 1),
            THREADS,
            shared_bytes(columns),
            (words, bounds, values, LIVE, out, partial, m, k, n, steps),
        )
    ]
    if shares > 1:
        grid = (-(-m * n // THREADS), 1, 1)
        launches.append(Launch(f"gather_{dtype}", grid, THREADS, 0, (partial, out, m * n, shares)))
    multiply = launch.bind(SOURCE, device, *launches)

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * whole(m, ROWS) * whole(k, DEEP) * columns,
        values=held.value_bytes,
        metadata=words.nbytes + bounds.nbytes + values.nbytes - held.value_bytes,
        holds=(words, bounds, values, partial, out),
        note={"algorithm": f"{ROWS * WARPS}x{columns}", "shares": shares},
    )
