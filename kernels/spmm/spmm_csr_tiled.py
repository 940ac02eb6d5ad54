"""Tiled rows in C++: a nonzero adds a multiple of 64 packed numbers of `b` to 64 sums in registers.

`b` is packed, as part of every call, in panels of 64 columns; the tile of `a` that is worked on meets a
slice of a panel that stays in L1 or L2, so the rate is that of the cache and not of memory. Threads take
runs of rows of equal work, so that a few long rows do not keep one of them busy. bfloat16 is widened on the
way, `b` as it is packed, and summed in float32.

Bad at: calls with little work, where packing `b` is most of the time; one row that holds most of the
nonzeros when n is at most 64, for the row of a panel is never shared; n = 1, which is a gather as in any
other compressed rows; bfloat16 where the dense product has instructions of its own.
"""

import ctypes
from pathlib import Path

import numpy as np
import torch

from suite import native
from suite.formats.tiled import count, tiled
from suite.kernel import Prepared, kernel
from suite.sparse import INT32_MOST

PANEL = 64  # columns; four registers of AVX-512, as in the source
SHALLOW = 128  # rows of b whose slice of a panel (32 KiB) stays in L1
DEEPEST = 2**15
SEGMENT = 20  # nonzeros of a row within a tile that pay for fetching and storing its sums
MOST_ROWS = 512  # of a chunk: its sums between tiles are 128 KiB, and stay in L2
SHARE = 8  # chunks a thread, so that the last to finish is not long alone
ROW = 4  # what a row costs beside its nonzeros, counted in nonzeros


def depth_of(a, n):
    """Columns of a tile: few enough for the slice to stay near, many enough that rows have some in it."""
    m, k = a.shape
    if n == 1 or not a.nonzeros:
        return k
    wanted = SEGMENT * m * k / a.nonzeros
    depth = SHALLOW
    while depth < wanted and depth < DEEPEST:
        depth *= 2
    if n < PANEL:  # a narrower slice holds more rows in the same bytes
        depth *= max(1, PANEL // 2 // max(4, 1 << (n - 1).bit_length()))
    # Tiles that a row mostly skips cost more than a slice that is far away.
    return k if depth >= k or count(k, depth) * m > 4 * a.nonzeros else depth


def chunks_of(a, threads):
    """Where runs of rows of about equal work begin, and the end."""
    m = a.shape[0]
    work = a.starts.numpy() + ROW * np.arange(m + 1, dtype=np.int64)
    shares = np.linspace(0, work[-1], min(m, SHARE * threads) + 1)
    edges = np.searchsorted(work, shares)
    return np.unique(np.concatenate((edges.clip(0, m), np.arange(0, m, MOST_ROWS), [0, m]))).astype(np.int64)


def refuse(case, device):
    reasons = native.missing()
    if case.pattern and not case.data and case.pattern.count(case["m"], case["k"]) > INT32_MOST:
        reasons.append(f"counts nonzeros in 32 bits; {case.pattern} has more than {INT32_MOST} here")
    return reasons


def prepare(a, b, library):
    (m, k), n = a.shape, b.shape[1]
    threads = torch.get_num_threads()
    held = tiled(a, depth_of(a, n))
    chunks = torch.from_numpy(chunks_of(a, threads))
    rows = int(chunks.diff().max())
    panels = [min(PANEL, n - first) for first in range(0, n, PANEL)]
    packed = torch.empty(k * sum(library.stride(width) for width in panels))
    partial = torch.empty(threads * rows * PANEL if held.tiles > 1 else 0)
    out = torch.empty(m, n, dtype=b.dtype)
    column = "uint16" if held.columns.dtype == torch.uint16 else "int32"
    multiply = library[f"spmm_{str(b.dtype).removeprefix('torch.')}_{column}"]
    multiply.restype = None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    before = [pointer(x.data_ptr()) for x in (held.starts, held.columns, held.values)]
    after = [
        pointer(out.data_ptr()),
        *map(number, (m, k, n, held.depth, held.tiles)),
        pointer(chunks.data_ptr()),
        number(len(chunks) - 1),
        pointer(packed.data_ptr()),
        pointer(partial.data_ptr()),
        number(rows),
        ctypes.c_int(threads),
    ]

    def run(b):
        multiply(*before, pointer(b.data_ptr()), *after)
        return out

    return Prepared(
        run,
        executed=2 * a.nonzeros * sum(library.stride(width) for width in panels),
        values=held.value_bytes,
        metadata=held.metadata_bytes + chunks.nbytes,
        holds=(held.starts, held.columns, held.values, chunks, packed, partial, out),
        note={"algorithm": f"{held.depth}x{PANEL}", "tiles": held.tiles, "lanes": library.lanes()},
    )


@kernel(op="spmm", on="cpu", dtypes=("float32", "bfloat16"), refuse=refuse)
def spmm_csr_tiled(a, b):
    """Compressed rows in column tiles against packed panels of b, in C++."""
    return prepare(a, b, native.load(Path(__file__).with_suffix(".cpp")))
