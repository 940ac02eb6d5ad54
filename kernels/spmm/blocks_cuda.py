"""Blocks of 16 columns and a few rows on a GPU: what kernels in CUDA C++ that multiply them share.

Rows of blocks are cut where they are long, and longer pieces begin first. Pieces of a row that was cut leave
their sums in float32, in places of their own, and a second launch adds them up: the order of a sum does not
depend on which piece ends first. `blocks.cuh` is the other side.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from suite.cuda import launch
from suite.cuda.launch import LIVE, Launch
from suite.formats.bsr import whole
from suite.kernel import Prepared

DEEP, STAGES, EACH, THREADS = 16, 4, 2, 128  # as in the source
LEAST = 64  # blocks of a row that are not worth cutting
LONG = 2  # times the mean is a long row


def shared_bytes(high: int, columns: int, turns: int) -> int:
    """Of the stages: for each block its values, and its rows of b, eight numbers apart."""
    return STAGES * turns * EACH * 2 * (high * DEEP + DEEP * (columns + 8))


def items_of(starts: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of blocks in pieces of so many at most: (row, first, last, place), longest first; and those cut.

    A piece of a row that was cut has a place of its own for its sums; the others have -1. Of a row that was
    cut: (row, first place, last place, 0).
    """
    lengths = np.diff(starts)
    pieces = np.maximum(1, -(-lengths // most))
    row = np.repeat(np.arange(len(lengths)), pieces)
    ends = pieces.cumsum()
    piece = np.arange(len(row)) - (ends - pieces)[row]
    each = -(-lengths // pieces)[row]
    first = np.minimum(starts[row] + piece * each, starts[row + 1])
    last = np.minimum(first + each, starts[row + 1])
    cut = pieces[row] > 1
    place = np.where(cut, cut.cumsum() - 1, -1)
    items = np.stack((row, first, last, place), 1).astype(np.int32)
    split = np.flatnonzero(pieces > 1)
    places = place[ends[split] - pieces[split]]
    splits = np.stack((split, places, places + pieces[split], 0 * split), 1).astype(np.int32)
    return items[np.argsort(first - last, kind="stable")], splits


def partial_of(splits: Tensor, high: int, n: int) -> Tensor:
    """Room for the sums of all pieces of rows that were cut: float32[places, high, n]."""
    places = int(splits[:, 1:3].diff().sum())
    return torch.empty(places, high, n, dtype=torch.float32, device=splits.device)


def gathering(splits: Tensor, targets: Tensor, partial: Tensor, out: Tensor) -> list[Launch]:
    """The launch that adds up the pieces of rows that were cut, if any were."""
    (_, high, n), dtype = partial.shape, str(out.dtype).removeprefix("torch.")
    grid = (len(splits), -(-n // THREADS), 1)
    one = Launch(f"gather_{dtype}", grid, THREADS, 0, (splits, targets, partial, out, n, high))
    return [one] if len(splits) else []


def extended(order: np.ndarray, size: int) -> Tensor:
    """An order of rows or columns, with -1 beyond."""
    return torch.from_numpy(np.pad(order.astype(np.int32), (0, size - len(order)), constant_values=-1))


def prepare(
    source: Path,
    starts: Tensor,
    values: Tensor,
    sources: Tensor,
    targets: Tensor,
    m: int,
    b: Tensor,
    turns: dict[int, int],
) -> Prepared:
    """The product of b and blocks, as the source's functions compute it.

    starts: of rows of blocks; values: of each block, as the source reads them; sources: int32[blocks, 16],
    rows of b; targets: int32[rows of blocks, rows of a block], rows of the answer, of which there are m; both
    -1 for none. turns: for each width of a tile of the answer, how many warps take turns at its blocks.
    """
    n, device, high = b.shape[1], b.device, targets.shape[1]
    columns = next((width for width in turns if n <= width), max(turns))
    most = max(LEAST, int(LONG * len(values) / len(targets)))
    items, splits = (torch.from_numpy(one).to(device) for one in items_of(starts.numpy(), most))
    values, sources, targets = values.to(device), sources.to(device), targets.to(device)
    partial = partial_of(splits, high, n)
    out = b.new_empty(m, n)
    dtype = str(b.dtype).removeprefix("torch.")
    one = Launch(
        f"spmm_{dtype}_{columns}{'' if n % 8 == 0 else '_ragged'}",
        (len(items), -(-n // columns), 1),
        THREADS,
        shared_bytes(high, columns, turns[columns]),
        (items, values, sources, targets, LIVE, out, partial, n),
    )
    multiply = launch.bind(source, device, one, *gathering(splits, targets, partial, out))

    def run(b: Tensor) -> Tensor:
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * values.numel() * whole(n, columns),
        values=values.nbytes,
        metadata=sum(one.nbytes for one in (sources, targets, items, splits)),
        holds=(values, sources, targets, items, splits, partial, out),
        note={"algorithm": f"{high}x{columns}", "cut": len(splits)},
    )
