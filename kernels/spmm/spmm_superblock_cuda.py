"""Superblocks on warpgroups: rows and columns permuted into panels of 128 or 64 rows, multiplied by wgmma.

SMaT with blocks so high that a row of `b` that is loaded serves as many rows as in a dense product. Along a
panel they are 16 columns wide: each names the rows of `b` that it meets, so four of them make a full step,
wherever they stand. Values are the blocks as they are; copies into shared memory swizzle them. A block of the
grid stays for a list of units, dealt out beforehand so that all lists take as long; a row of blocks longer
than a list is cut.

The permutation is that of spmm_smat_cuda.py; to feed wgmma with panels is the idea of AsyncSparse (2026) too.
Bad at: scattered nonzeros, which leave such blocks nearly empty; few columns, which are padded to 64.
"""

import heapq
from pathlib import Path

import numpy as np
import torch

from suite import native
from suite.cuda import launch, nvrtc
from suite.cuda.launch import LIVE, Launch
from suite.formats.bsr import Bsr, bsr, fills_up, whole
from suite.formats.permuted import Order, gathered, permuted
from suite.kernel import Prepared, kernel
from suite.kernels.spmm import blocks_cuda
from suite.sparse import Sparse

SOURCE = Path(__file__).with_suffix(".cu")
DEEP, EACH, STAGES = 16, 4, 4  # as in the source
WIDTHS = {64: (64, 128), 128: (64, 128, 256)}  # of a tile of the answer, by its height
ROOM = 227 << 10  # bytes of shared memory that blocks of the grid have between them
OWN = 1 << 10  # bytes of them that each block takes beside
FETCH = 128  # rows multiplied while a row of b comes from L2: on Hopper, at what is said of both, some 140
END = 1  # steps in the time that the end of a unit takes; a guess


def shared_bytes(high: int, columns: int) -> int:
    """Of the stages: a step's values and rows of b."""
    return STAGES * 2 * DEEP * EACH * (high + columns)


def superblocks(a: Sparse) -> tuple[Order, Bsr]:
    """`a` in panels of the height that takes less time, which fetching `b` is a part of."""
    orders = {high: gathered(a, high, DEEP) for high in WIDTHS}
    high = min(orders, key=lambda high: orders[high].blocks * (high + FETCH))
    return orders[high], bsr(permuted(a, orders[high]), high, DEEP)


def width_of(high: int, n: int) -> int:
    """Columns of a tile: those with which the least is fetched, padding and all."""
    return min(WIDTHS[high], key=lambda width: whole(n, width) * (1 / high + 1 / width))


def units_of(items: np.ndarray, n: int, width: int, lists: int) -> tuple[np.ndarray, np.ndarray]:
    """Units as (item, first column) in the order of their lists, and where each list starts.

    Long items first, as sorting by length to a factor of two has them; among those tile by tile, for `b` to
    stay near. Each unit goes to the list that would be done first.
    """
    lengths = items[:, 2] - items[:, 1]
    tiles = -(-n // width)
    item, tile = np.tile(np.arange(len(items)), tiles), np.repeat(np.arange(tiles), len(items))
    order = np.lexsort((item, tile, -np.frexp(lengths[item])[1]))
    item, tile = item[order], tile[order]
    load = [(0, one) for one in range(lists)]
    owner = np.empty(len(item), np.int64)
    for at, steps in enumerate((-(-lengths[item] // EACH) + END).tolist()):
        done, owner[at] = load[0]
        heapq.heapreplace(load, (done + steps, int(owner[at])))
    order = np.argsort(owner, kind="stable")
    units = np.stack((item, tile * width), 1)[order].astype(np.int32)
    return units, np.searchsorted(owner[order], np.arange(lists + 1)).astype(np.int32)


def refuse(case, device):
    return [*nvrtc.missing(), *native.missing(), *fills_up(case, min(WIDTHS), DEEP)]


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("bfloat16", "float16"),
    isa=("sm_90a",),
    refuse=refuse,
    ids=("smat",),
)
def spmm_superblock_cuda(a, b):
    """Rows and columns permuted for panels of 128 or 64 rows, which warpgroups multiply, in CUDA C++."""
    a, (m, n), device = a.to("cpu"), (a.shape[0], b.shape[1]), b.device
    order, blocks = superblocks(a)
    (_, high, _), (down, right) = blocks.values.shape, blocks.padded
    width = width_of(high, n)
    shared, tiles = shared_bytes(high, width), -(-n // width)
    lists = launch.processors(device) * (ROOM // (shared + OWN))
    most = max(blocks_cuda.LEAST, -(-len(blocks.values) * tiles // lists))
    cut = blocks_cuda.items_of(blocks.starts.numpy(), most)
    lists = min(lists, len(cut[0]) * tiles)
    items, splits, units, starts = (
        torch.from_numpy(one).to(device) for one in (*cut, *units_of(cut[0], n, width, lists))
    )
    values = blocks.values.to(device)
    sources = blocks_cuda.extended(order.columns, right).view(-1, DEEP)[blocks.columns.long()].to(device)
    targets = blocks_cuda.extended(order.rows, down).view(-1, high).to(device)
    partial, out = blocks_cuda.partial_of(splits, high, n), b.new_empty(m, n)
    one = Launch(
        f"spmm_{str(b.dtype).removeprefix('torch.')}_{high}x{width}{'' if n % 8 == 0 else '_ragged'}",
        (lists, 1, 1),
        2 * high,
        shared,
        (units, starts, items, values, sources, targets, LIVE, out, partial, n),
    )
    multiply = launch.bind(SOURCE, device, one, *blocks_cuda.gathering(splits, targets, partial, out))

    def run(b):
        multiply(b)
        return out

    metadata = (sources, targets, items, splits, units, starts)
    return Prepared(
        run,
        executed=2 * values.numel() * whole(n, width),
        values=values.nbytes,
        metadata=sum(one.nbytes for one in metadata),
        holds=(values, *metadata, partial, out),
        note={
            "algorithm": f"{high}x{width}",
            "cut": len(splits),
            "blocks": f"{order.before}->{order.blocks}",
            "full": f"{a.nonzeros / max(1, values.numel()):.0%}",
        },
    )
