"""Tiled rows in C++: a nonzero adds a multiple of up to 64 packed numbers of `b` to sums in registers.

`b` is packed, as part of every call, in panels of 64 columns; the tile of `a` that is worked on meets a
slice of a panel that stays in L1 or L2, so the rate is that of the cache and not of memory. Where few
nonzeros meet each row of `b`, packing would cost more than it saves: panels of up to 256 columns are then
read where they are. Loads bound the rate, so indices and values are loaded four at a time. Threads take runs
of rows of equal work, and share a row that is longer than such a run. bfloat16 is widened on the way and
summed in float32.

Bad at: calls with little work, where packing `b` is most of the time; bfloat16 where the dense product has
instructions of its own; n = 1 from some density on, where a bitmap moves fewer bytes.
"""

from ctypes import c_int
from pathlib import Path

import numpy as np
import torch

from suite import native
from suite.cpu.info import cache_bytes
from suite.formats.tiled import count, tiled
from suite.kernel import Prepared, kernel
from suite.sparse import INT32_MOST

PANEL = 64  # columns; four registers of AVX-512, as in the source
PANELS = (256, 128, PANEL)  # in place
REUSED = 16  # nonzeros for each row of b from which on packing it pays
DEEPEST = 2**15
SEGMENT = 20  # nonzeros of a row within a tile that pay for fetching and storing its sums
MOST_ROWS = 512  # of a chunk: its sums between tiles are 128 KiB, and stay in L2
SHARE = 8  # chunks a thread, so that the last to finish is not long alone
LEAST = 4096  # nonzeros of a row that is worth sharing
ALONE = 2**15  # multiply-adds that are done before a second thread has begun


def near(row_bytes):
    """Rows of b, of so many bytes each, whose slice stays in L1: a power of two.

    At most 70 % of it; where rows are short, `a` itself needs as much room again as it streams by.
    """
    share = 0.7 if row_bytes > 32 else 0.35
    return 1 << int(np.log2(cache_bytes("L1d") * share / row_bytes))


def depth_of(a, width):
    """Columns of a tile: few enough for the slice to stay near, many enough that rows have some in it."""
    m, k = a.shape
    if width == 1 or not a.nonzeros:
        return k
    depth = near(4 * max(4, width))
    while depth < SEGMENT * m * k / a.nonzeros and depth < DEEPEST:
        depth *= 2
    # Tiles that a row mostly skips cost more than a slice that is far away.
    return k if depth >= k or count(k, depth) * m > 4 * a.nonzeros else depth


def panels_of(n, k, lanes, packed):
    """First column, width, stride, offset of each panel; the last overlaps rather than be too narrow."""
    made, at, offset = [], 0, 0
    while at < n:
        fitting = [one for one in PANELS if at + one <= n and not packed and lanes == 16]
        width = fitting[0] if fitting else min(PANEL, n - at)
        first = max(0, min(at, n - lanes))
        at, width = at + width, at + width - first
        stride = (1 if n == 1 else whole(width, lanes)) if packed else n
        made.append((first, width, stride, offset))
        offset += k * stride
    return np.array(made, np.int64), offset


def lanes_of(width, lanes):
    """Lanes of the registers that so many columns fill; fewer than four are padded."""
    while lanes > max(width, 4):
        lanes //= 2
    return lanes


def whole(width, lanes):
    """Columns in whole registers."""
    each = lanes_of(width, lanes)
    return -(-width // each) * each


def refuse(case, device):
    reasons = native.missing()
    if case.pattern and not case.data and case.pattern.count(case["m"], case["k"]) > INT32_MOST:
        reasons.append(f"counts nonzeros in 32 bits; {case.pattern} has more than {INT32_MOST} here")
    return reasons


def prepare(a, b, library):
    (m, k), n = a.shape, b.shape[1]
    threads = torch.get_num_threads() if a.nonzeros * n > ALONE else 1
    reused = a.nonzeros > REUSED * k
    lanes, plain = library.lanes(), b.dtype == torch.float32  # bfloat16 is widened: packed, or at every use
    packed_already = plain and (n == 1 or n == whole(n, lanes) <= PANEL)
    in_place = packed_already or (n >= 4 and not reused)
    panels, room = panels_of(n, k, lanes, not in_place)
    widths = panels[:, 1]
    depth = depth_of(a, int(widths.max())) if reused else k
    longest = max(LEAST, a.nonzeros // (4 * threads)) if threads > 1 else INT32_MOST
    held = tiled(a, depth, SHARE * threads, MOST_ROWS if count(k, depth) > 1 else 2**14, longest)
    several = len(held.segments) > len(held.target)
    sums = int(held.edges.diff().max()) * whole(int(widths.max()), lanes) if several else 0
    packed = torch.empty(0 if in_place else room)
    partial, spill = torch.empty(threads * sums), torch.empty(held.spills, n)
    out = torch.empty(m, n, dtype=b.dtype)
    column = "uint16" if held.columns.dtype == torch.uint16 else "int32"
    far = b.nbytes + out.nbytes > cache_bytes("L3")
    streamed = in_place and far and n % 16 == 0 and out.data_ptr() % 64 == 0
    multiply = native.bind(
        library[f"spmm_{str(b.dtype).removeprefix('torch.')}_{column}"],
        *(*held.arrays, native.LIVE, out),
        *(k, n, held.depth, held.tiles, held.chunks, len(held.spilled)),
        *(panels, len(panels), None if in_place else packed, partial, sums, spill, streamed, c_int(threads)),
    )

    def run(b):
        multiply(b)
        return out

    issued = sum(whole(int(width), lanes) for width in widths) if n > 1 else 1
    return Prepared(
        run,
        executed=2 * a.nonzeros * issued,
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held, panels, packed, partial, spill, out),
        note={
            "algorithm": f"{held.depth}x{int(widths.max())}",
            "tiles": held.tiles,
            "packed": not in_place,
            "lanes": lanes,
        },
    )


@kernel(op="spmm", on="cpu", dtypes=("float32", "bfloat16"), refuse=refuse)
def spmm_csr_tiled(a, b):
    """Compressed rows in column tiles against panels of b, in C++."""
    return prepare(a, b, native.load(Path(__file__).with_suffix(".cpp")))
