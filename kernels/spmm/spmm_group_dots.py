"""Groups along a row in C++: 4, 8 or 16 neighbouring weights times as many neighbours of a column of `b`.

Both are contiguous, so that nothing is picked element by element: with few columns, a product of stretches is
as quick as memory is, and one column number stands for all of a stretch.

Bad at: many columns, for which each needs its own sum and the rows of `b` would serve better: it takes 8 at
most; patterns whose stretches would be mostly zeros, which it refuses.
"""

from ctypes import c_int
from pathlib import Path

import torch

from suite import native
from suite.formats.bsr import SMALL, fullness
from suite.formats.groups import count_stretches, stretches, whole
from suite.kernel import Prepared, Refused, kernel

FEW = 8  # columns, as in the source
COST = {16: 1.0, 8: 1.05, 4: 1.2}  # of a value in a stretch of so many, beside one of sixteen
LEAST_FULL = 0.8  # share of nonzeros in the stretches, below which picking single elements is quicker


def refuse(case, device):
    reasons = native.missing()
    if case["n"] > FEW:
        reasons.append(f"needs n of {FEW} at most, got {case['n']}")
    if (full := fullness(case, 1, min(COST))) < LEAST_FULL:
        reasons.append(hollow(full))
    return reasons


def hollow(full):
    return f"needs nonzeros side by side: stretches of {min(COST)} would be {full:.0%} full"


def width_of(a):
    """Columns of a stretch with which the zeros filled in cost the least."""
    m, k = a.shape
    stored = {width: width * count_stretches(a, width) for width in COST}
    if a.nonzeros < LEAST_FULL * min(stored.values()) and m * k > SMALL:
        raise Refused(hollow(a.nonzeros / stored[min(COST)]))
    return min(stored, key=lambda width: COST[width] * stored[width])


def prepare(a, b, library):
    (m, k), n = a.shape, b.shape[1]
    held = stretches(a, width_of(a))
    packed = torch.empty(whole(k, held.width) * held.width * n)
    out = torch.empty(m, n)
    column = "uint16" if held.columns.dtype == torch.uint16 else "int32"
    multiply = native.bind(
        library[f"spmm_{column}_{held.width}"],
        *(held.starts, held.columns, held.values, native.LIVE, out, m, k, n, packed),
        c_int(torch.get_num_threads()),
    )

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * held.values.numel() * n,
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held.starts, held.columns, held.values, packed, out),
        note={"algorithm": f"1x{held.width}", "lanes": library.lanes()},
    )


@kernel(op="spmm", on="cpu", refuse=refuse, live_order="columns", ids=("sparsebytenn",))
def spmm_group_dots(a, b):
    """Groups of 4, 8 or 16 columns against a few columns of b, in C++."""
    return prepare(a, b, native.load(Path(__file__).with_suffix(".cpp")))
