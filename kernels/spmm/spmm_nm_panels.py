"""N:M against packed panels of `b`: every row keeps as many of a tile, so tiles need no pointers and no ends.

As in any tiled compressed rows, a nonzero adds a multiple of a row of the panel to sums in registers, and
the slice of the panel that a tile meets stays in L1. N:M makes the tiles regular: their loops are unrolled
over groups, two rows are in flight, a position takes ceil(log2 M) bits, and what comes next is known early
enough to be fetched. bfloat16 is widened, `b` as it is packed. The C++ is compiled for its N, M and dtype
at first use.

V:N:M and N:M:G keep N of every M as well, and are taken as such. Bad at: few columns, which are padded to
whole registers; large M beside a small N, where a tile has little of each row; bfloat16 where the dense
product has instructions of its own.
"""

from ctypes import c_int
from pathlib import Path

import torch

from suite import native
from suite.formats.n_of_m import PATTERNS, Cut, in_lanes
from suite.kernel import Prepared, kernel

NUMBER = {torch.float32: "float", torch.bfloat16: "bfloat16"}
LARGEST = 32  # M up to which a step is short enough to be unrolled
SLICE = 2**15  # bytes of a panel that a tile meets
ROWS = 512  # of a chunk: its sums between tiles are 256 KiB at most, and stay in L2
SHARE = 8  # chunks a thread, so that the last to finish is not long alone


def refuse(case, device):
    reasons = native.missing()
    if case.pattern.m > LARGEST:
        reasons.append(f"is unrolled for groups of {LARGEST} at most; {case.pattern} has {case.pattern.m}")
    return reasons


def prepare(a, b, *flags):
    n, m = a.pattern.n, a.pattern.m
    made_for = (f"-DN={n}", f"-DM={m}", f"-DNUMBER={NUMBER[b.dtype]}")
    library = native.load(Path(__file__).with_suffix(".cpp"), *made_for, *flags)
    (rows, k), columns = a.shape, b.shape[1]
    threads = torch.get_num_threads()
    cut = Cut(n, m, library.lanes(), m)
    held = in_lanes(a, cut)
    steps = cut.steps(k)
    panel = library.widest_panel()
    widths = [library.stride(min(panel, columns - first)) for first in range(0, columns, panel)]
    tile = max(1, SLICE // (cut.columns * widths[0] * 4))
    chunk = max(1, min(ROWS, rows * len(widths) // (SHARE * threads)) // cut.lanes)
    packed = torch.zeros(steps * cut.columns * sum(widths))
    partial = torch.empty(threads * chunk * cut.lanes * panel)
    out = torch.empty(rows, columns, dtype=b.dtype)
    multiply = native.bind(
        library.multiply,
        *(held.values, held.positions, native.LIVE, out),
        *(rows, k, columns, steps, panel, tile, chunk),
        *(packed, partial, c_int(threads)),
    )

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * held.values.numel() * sum(widths),
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held.values, held.positions, packed, partial, out),
        note={"algorithm": f"{tile * cut.columns}x{panel}", "bits": cut.bits},
    )


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    patterns=PATTERNS,
    refuse=refuse,
    ids=("sten",),
)
def spmm_nm_panels(a, b):
    """N of M in unrolled tiles against packed panels of b, in C++."""
    return prepare(a, b)
