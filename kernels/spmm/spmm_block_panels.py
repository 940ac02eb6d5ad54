"""Blocks in C++: eight rows of blocks times a packed panel of `b`, summed in registers.

This is how a dense product works, too; here a block that is missing is left out. So it runs at the rate of a
dense one while there is work enough to pay for packing `b`: in floats, or, where the processor multiplies
pairs of bfloat16 numbers, in such pairs. A packed slab of `b` stays in L2 while `a` passes by.

Bad at: patterns without blocks, whose few nonzeros fill many of them; blocks whose height is no multiple of
eight, which are covered by 16 x 16; fewer than four columns, which leave lanes empty.
"""

from ctypes import CDLL, Structure, byref, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suite import native
from suite.cpu.info import cache_bytes
from suite.formats.bsr import Bsr, block_of, bsr, split, unfit, whole
from suite.kernel import Prepared, Refused, kernel
from suite.sparse import INT32_MOST, Sparse

UNIT = 4  # bytes: a float, or a pair of bfloat16 numbers
NARROWEST = 48  # columns of a slab: a panel of the source
SEGMENT = 64  # units of a row within a tile that pay for fetching and storing its sums
SHARE = 8  # chunks a thread, so that the last to finish is not long alone
TILE = (8, 2)  # blocks are made of these


class Plan(Structure):
    """The struct of this name in the source, which says what the fields are."""

    ARRAYS = (
        *("starts", "columns", "values", "single_starts", "single_columns", "singles"),
        *("row_order", "column_order", "chunks", "packed", "partial"),
    )
    SIZES = (
        *("block_rows", "height", "width", "units", "depth", "tiles"),
        *("n", "slab", "chunk_count", "threads", "alone", "lanes"),
    )
    _fields_ = [*((name, c_void_p) for name in ARRAYS), *((name, c_int64) for name in SIZES)]


@dataclass(frozen=True)
class Cut:
    """How a product is cut: b into slabs of columns, k into tiles. What both meet is packed at a time."""

    slab: int  # columns of b
    alone: bool  # each thread packs slabs for itself: there are as many for each
    depth: int  # columns of a
    tiles: int


def cut(
    down: int, right: int, width: int, filled: int, numbers: int, n: int, lanes: int, threads: int
) -> Cut:
    """Slabs and tiles of which L2 holds one, for so many filled positions in blocks of this width.

    `a` is read once a slab, the sums are fetched and stored once a tile. Both together are least where a slab
    has about sqrt(density L2 / 4) columns, with a sum counted twice, for nothing fetches it ahead of its use.
    """
    near, units = cache_bytes("L2") // UNIT, right // numbers
    wanted = max((filled / (down * right) * near / 4) ** 0.5, near / units, NARROWEST)
    slab = min(n, int(wanted / lanes) * lanes)
    if -(-n // slab) >= threads:
        slab = whole(-(-n // whole(-(-n // slab), threads)), lanes)
    tiles = max(1, min(-(-units * slab // near), filled // (numbers * down * SEGMENT)))
    depth = whole(-(-right // tiles), width)
    return Cut(slab, -(-n // slab) % threads == 0, depth, -(-right // depth))


def by_tile(rows: np.ndarray, columns: np.ndarray, to: Cut, down: int) -> tuple[Tensor, Tensor, Tensor]:
    """For what stands in these rows and columns: order by tile, starts of rows, columns within a tile."""
    segment = columns // to.depth * np.int64(down) + rows
    order = np.argsort(segment, kind="stable")
    starts = np.zeros(to.tiles * down + 1, np.int32)
    np.cumsum(np.bincount(segment, minlength=to.tiles * down), out=starts[1:])
    within = (columns % to.depth)[order].astype(np.int32)
    return torch.from_numpy(order), torch.from_numpy(starts), torch.from_numpy(within)


def blocks_of(a: Bsr, to: Cut, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Starts, columns, and values as the source reads them: [groups, rows, width].

    Of the blocks of a row within a tile, the upper `rows` rows come first, then the next.
    """
    blocks, height, width = a.values.shape
    groups, lengths = height // rows, a.starts.diff().numpy()
    block_rows = np.repeat(np.arange(len(lengths)), lengths)
    order, starts, columns = by_tile(block_rows, a.columns.numpy() * width, to, len(lengths))
    lengths = starts.diff()
    upper = torch.arange(blocks) + torch.repeat_interleave(starts[:-1] * (groups - 1), lengths)
    below = torch.repeat_interleave(lengths, lengths)
    at = upper.unsqueeze(1) + torch.arange(groups) * below.unsqueeze(1)
    values = torch.empty(blocks * groups, rows, width, dtype=a.values.dtype)
    values[at.flatten()] = a.values[order].view(values.shape)
    return starts, columns, values


def singles_of(a: Sparse, to: Cut, down: int, numbers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Starts, columns, and units that hold one nonzero each."""
    rows = np.repeat(np.arange(a.shape[0]), a.row_lengths.numpy())
    order, starts, columns = by_tile(rows, a.columns.numpy(), to, down)
    units = torch.zeros(a.nonzeros, numbers, dtype=a.dtype)
    units[torch.arange(a.nonzeros), columns.long() % numbers] = a.values[order]
    return starts, columns, units


def extended(order: np.ndarray, size: int) -> Tensor:
    """An order of rows or columns, with -1 for padding."""
    return torch.from_numpy(np.pad(order.astype(np.int32), (0, size - len(order)), constant_values=-1))


def chunks_of(work: np.ndarray, threads: int) -> Tensor:
    """Where runs of rows of blocks of about equal work begin, and the end."""
    ends = np.cumsum(work)
    edges = np.searchsorted(ends, np.linspace(0, ends[-1], SHARE * threads + 1)[1:-1])
    return torch.from_numpy(np.unique(np.concatenate(([0], edges, [len(work)]))).astype(np.int64))


def prepare(
    library: CDLL,
    a: Bsr,
    singles: Sparse,
    b: Tensor,
    rows: np.ndarray,
    columns: np.ndarray,
    across: int | None = None,
) -> Prepared:
    """The product of b with blocks and with single nonzeros, row i of which is row rows[i] of the answer.

    across: how many columns the source takes of a row of a block before it takes the next row; else a unit.
    """
    if singles.nonzeros > INT32_MOST:
        raise Refused(f"{singles.nonzeros} nonzeros in no block; they are counted to {INT32_MOST}")
    n, threads = b.shape[1], torch.get_num_threads()
    (down, right), (_, height, width) = a.padded, a.values.shape
    lanes, numbers = library.lanes(n), library.bfloat16s() if b.dtype == torch.bfloat16 else 1
    to = cut(down, right, width, a.values.numel() + singles.nonzeros, numbers, n, lanes, threads)
    starts, firsts, values = blocks_of(a, to, library.rows())
    values = values.unflatten(-1, (-1, across or numbers)).transpose(1, 2).contiguous()
    single_starts, single_columns, units = singles_of(singles, to, down, numbers)
    if b.dtype == torch.bfloat16 and numbers == 1:  # multiplied as floats
        values, units = values.float(), units.float()
    work = starts.diff().view(to.tiles, -1).sum(0) * height * width + height
    work += single_starts.diff().view(to.tiles, -1, height).sum((0, 2))
    chunks = chunks_of(work.numpy(), threads)
    wide = whole(to.slab, lanes) * (threads if to.alone else 1)
    packed, sums = torch.empty(to.depth // numbers * wide), torch.empty(down * wide if to.tiles > 1 else 0)
    held = (
        *(starts, firsts // numbers, values, single_starts, single_columns // numbers, units),
        *(extended(rows, down), extended(columns, right), chunks, packed, sums),
    )
    plan = Plan(
        *(one.data_ptr() for one in held),
        *(down // height, height, width // numbers, right // numbers, to.depth // numbers, to.tiles),
        *(n, to.slab, len(chunks) - 1, threads, to.alone, lanes),
    )
    out = torch.empty(a.shape[0], n, dtype=b.dtype)
    dtype = str(b.dtype).removeprefix("torch.")
    multiply = native.bind(library[f"spmm_{dtype}"], byref(plan), native.LIVE, out)

    def run(b):
        multiply(b)
        return out

    value_bytes = values.nbytes + units.nbytes
    return Prepared(
        run,
        executed=2 * (a.values.numel() + units.numel()) * whole(n, lanes),
        values=value_bytes,
        metadata=sum(one.nbytes for one in held[:-2]) - value_bytes,
        holds=(*held, out),
        note={"algorithm": f"{height}x{width}", "slab": f"{to.depth}x{to.slab}", "lanes": lanes},
    )


def in_blocks(library: CDLL, a: Sparse, b: Tensor, tile: tuple[int, int], **how) -> Prepared:
    """The product of b and a, all of it in blocks, in the order it has."""
    height, width = block_of(a.pattern, tile=tile)
    every, none = split(a, height, width, 1)
    rows, columns = np.arange(a.shape[0]), np.arange(a.shape[1])
    return prepare(library, bsr(every, height, width), none, b, rows, columns, **how)


def refuse(case, device):
    return [*native.missing(), *unfit(case, tile=TILE)]


@kernel(
    op="spmm", on="cpu", dtypes=("float32", "bfloat16"), refuse=refuse, ids=("pixelfly", "lpvit", "g2gnet")
)
def spmm_block_panels(a, b):
    """Blocks against packed panels of b, in C++."""
    return in_blocks(native.load(Path(__file__).with_suffix(".cpp")), a, b, TILE)
