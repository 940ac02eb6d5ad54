"""N:M with a row a lane: permutations in registers pick from `b`, and only the compressed weight is read.

Rows stand side by side in the lanes of registers. Of each window of 16 columns (32 where M is larger) they
keep equally many values; a register of these meets as many numbers of `b`, picked from the window by one
permutation whose indices are the positions. No gather, no sum across lanes, no row pointers, and ceil(log2
M) bits a position: one column takes the time in which the weight arrives. Up to eight columns of `b` share
what is read and unpacked. bfloat16 goes in pairs where the processor multiplies them so, else it is widened
on the way. The C++ is compiled for its N, M and dtype at first use.

V:N:M and N:M:G keep N of every M as well, and are taken as such. Bad at: many columns of float32, for each
product costs a permutation beside the multiply-add; M that leaves much of a window unused, such as 9 of 16;
processors that permute slowly, or have no such instruction at all.
"""

from ctypes import c_int
from pathlib import Path

import torch

from suite import native
from suite.formats.n_of_m import PATTERNS, Cut, in_lanes
from suite.kernel import Prepared, kernel

LARGEST = 32  # M for which there is a permutation
CHUNK = 2**18  # bytes of a that are worked on at a time, for all columns: they stay in L2


def refuse(case, device):
    reasons = native.missing()
    if case.pattern.m > LARGEST:
        reasons.append(f"picks from {LARGEST} numbers at most; {case.pattern} has groups of {case.pattern.m}")
    return reasons


def prepare(a, b, *flags):
    n, m = a.pattern.n, a.pattern.m
    made_for = (f"-DN={n}", f"-DM={m}", f"-DNUMBER={8 * b.dtype.itemsize}")
    library = native.load(Path(__file__).with_suffix(".cpp"), *made_for, *flags)
    (rows, k), columns = a.shape, b.shape[1]
    threads = torch.get_num_threads()
    together = library.together()
    cut = Cut(n, m, library.lanes(), library.window(), together, word=32 // together)
    held = in_lanes(a, cut)
    steps = cut.steps(k)
    packed = torch.zeros(
        steps * cut.windows * cut.window * columns, dtype=b.dtype if together == 2 else torch.float32
    )
    out = torch.empty(rows, columns, dtype=b.dtype)
    band = held.values[0].nbytes
    chunk = max(1, CHUNK // band)
    multiply = native.bind(
        library.multiply,
        *(held.values, held.positions, native.LIVE, out),
        *(rows, k, columns, steps, chunk),
        *(packed, c_int(threads)),
    )

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * held.values.numel() * columns,
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held.values, held.positions, packed, out),
        note={"lanes": cut.lanes, "window": cut.window, "together": together},
    )


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    patterns=PATTERNS,
    refuse=refuse,
    ids=("sten",),
    live_order="columns",
)
def spmm_nm_permuted(a, b):
    """N of M by permutation in registers, in C++."""
    return prepare(a, b)
