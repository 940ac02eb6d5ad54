"""Groups of any shape in C++: rows in fours, which load a row of `b` once where several have a nonzero.

In four rows of an unstructured matrix that is half full, a column that is met at all is met by two of them
on average. Sorted by which, each of the fifteen sets of rows has a loop of its own, without a branch or a
zero in it, and all need less than two thirds of the loads of compressed rows.

Bad at: few nonzeros, whose columns few rows share, and which it refuses below a limit; large matrices, whose
many short loops a branch predictor cannot learn, as it does those of small ones; fewer than 8 columns, which
it refuses; bfloat16 where the dense product has instructions of its own.
"""

from ctypes import c_int
from pathlib import Path

import torch

from suite import native
from suite.formats.bsr import SMALL, fullness
from suite.formats.groups import FOUR, count_masks, even, masks, whole
from suite.kernel import Prepared, Refused, kernel
from suite.kernels.spmm.spmm_group_rows import L1, L2, MOST_PARTIAL, chunks_of, stays

LEAST = 8  # columns, as in the source
ALONE = 0.95  # columns of four rows over nonzeros, from which on there is hardly any sharing
SELDOM = 10  # times that a number of b is met and is not worth packing
LEARNED = 2**10  # segments whose loops a branch predictor learns
SEGMENT = 64  # columns of a strip within a tile that pay for fetching and storing its sums
LONG = 192  # the same, where its loops end with a surprise


def refuse(case, device):
    reasons = native.missing()
    if case["n"] < LEAST:
        reasons.append(f"needs n of {LEAST} at least, got {case['n']}")
    if (alone := 1 / (FOUR * fullness(case, FOUR, 1))) > ALONE:
        reasons.append(lonely(alone))
    return reasons


def lonely(alone):
    return f"needs rows that share columns: four of them would have {alone:.0%} as many as nonzeros"


def depth_of(a, columns, width):
    """Columns of a tile, of which `width` of b are worked on at a time, given the columns of all strips.

    Few enough for the slice to stay in L1, if the strips then have many columns in it.
    """
    m, k = a.shape
    strips, depth = whole(m, FOUR), L1 // width
    while depth < k:
        segments = strips * whole(k, depth)
        if columns >= segments * (SEGMENT if segments <= LEARNED else LONG):
            break
        depth *= 2
    return even(k, min(depth, L2 // width))


def prepare(a, b, library):
    (m, k), n = a.shape, b.shape[1]
    threads = torch.get_num_threads()
    columns = count_masks(a)
    if columns > ALONE * a.nonzeros and m * k > SMALL:
        raise Refused(lonely(columns / a.nonzeros))
    widest, computed = library.widest_panel(), library.computed(n)
    held = masks(a, depth_of(a, columns, min(computed, widest)))
    values = held.values.float()
    sums = FOUR * widest
    most = max(1, MOST_PARTIAL // sums) if held.tiles > 1 else held.strips
    chunks = chunks_of(held.column_starts, held.strips, whole(n, widest), most, threads)
    seldom = columns <= SELDOM * k and stays(held.depth, n)
    in_place = b.dtype == torch.float32 and (seldom or bool(library.is_packed(n)))
    packed = torch.empty(0 if in_place else threads * k * widest)
    room = int(chunks.diff().max()) * sums if held.tiles > 1 else 0
    partial = torch.empty(threads * room)
    out = torch.empty(m, n, dtype=b.dtype)
    number = "float" if b.dtype == torch.float32 else "bfloat16"
    column = "uint16" if held.columns.dtype == torch.uint16 else "int32"
    index = (held.column_starts, held.value_starts, held.counts, held.columns)
    multiply = native.bind(
        library[f"spmm_{number}_{column}"],
        *(*index, values, native.LIVE, out),
        *(m, k, n, held.depth, held.tiles),
        *(chunks, len(chunks) - 1, in_place, packed, partial, room, c_int(threads)),
    )

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * a.nonzeros * computed,
        values=values.nbytes,
        metadata=held.metadata_bytes + chunks.nbytes,
        holds=(*index, values, chunks, packed, partial, out),
        note={"algorithm": f"{held.depth}x{widest}", "b": "in place" if in_place else "packed"},
    )


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    refuse=refuse,
    ids=("fast-sparse-convnets", "sparsebytenn"),
)
def spmm_group_masks(a, b):
    """Strips of four rows, sorted by which of them a column meets, in C++."""
    return prepare(a, b, native.load(Path(__file__).with_suffix(".cpp")))
