"""Grouped N:M with its rows sorted by placement: what they keep of `b` is in registers, and no index says so.

Of a chunk's rows, all that keep the same N columns of a group come one after another, and the code of each
placement is unrolled: it fetches the one row of `b` in which the placement differs from the last, and adds
N multiples of rows in registers to the sums of each matrix row, which stay in L1. This saves the fetches of
`b`, N for each row and group in plain N:M, and N positions, of which one number is left: which row it is.
The price is that sums are fetched and stored for each group. So it pays where N is 3 or more; at N = 1
there is nothing to save, and a processor stores half as fast as it multiplies. The C++ is compiled for its
placements at first use.

Bad at: N below 3, for which `spmm_nm_panels` takes the same matrices; few columns, which are padded to
whole registers; chunks whose sums do not fit L1.

Ivanov et al., "STen: Productive and Efficient Sparsity in PyTorch", 2023.
"""

from ctypes import c_int
from pathlib import Path

import torch

from suite import native
from suite.formats.grouped import LARGEST, grouped
from suite.kernel import Prepared, kernel
from suite.patterns.grouped_n_of_m import GroupedNofM, placements
from suite.patterns.positions import comb_at_most

UNROLLED = 128  # placements; their code is then about as long as the processor's instruction cache


def refuse(case, device):
    reasons, pattern = native.missing(), case.pattern
    if not comb_at_most(pattern.m, pattern.n, UNROLLED * pattern.n):
        reasons.append(f"is unrolled for {UNROLLED} placements at most, and {pattern} has more")
    elif pattern.rows > LARGEST:
        reasons.append(f"counts rows of a chunk to {LARGEST}; {pattern} has {pattern.rows}")
    return reasons


def prepare(a, b, *flags):
    pattern, (rows, k), columns = a.pattern, a.shape, b.shape[1]
    order = ",".join("{" + ",".join(map(str, one)) + "}" for one in placements(pattern.n, pattern.m))
    made_for = (f"-DN={pattern.n}", f"-DM={pattern.m}", f"-DG={pattern.g}", f"-DPLACEMENTS={order}")
    library = native.load(Path(__file__).with_suffix(".cpp"), *made_for, *flags)
    threads = torch.get_num_threads()
    held = grouped(a, pattern.n, pattern.m, pattern.rows)
    panel = library.panel()
    widths = [library.stride(min(panel, columns - first)) for first in range(0, columns, panel)]
    packed = torch.empty(k * sum(widths))
    sums = torch.empty(threads * pattern.rows * panel)
    out = b.new_empty(rows, columns)
    multiply = native.bind(
        library.multiply,
        *(held.values, held.rows, native.LIVE, out),
        *(rows, k // pattern.m, columns),
        *(packed, sums, c_int(threads)),
    )

    def run(b):
        multiply(b)
        return out

    return Prepared(
        run,
        executed=2 * a.nonzeros * sum(widths),
        values=held.value_bytes,
        metadata=held.metadata_bytes,
        holds=(held.values, held.rows, packed, sums, out),
        note={"chunk": pattern.rows, "panel": panel},
    )


@kernel(op="spmm", on="cpu", dtypes=("float32",), patterns=(GroupedNofM,), refuse=refuse, ids=("sten",))
def spmm_grouped_nm(a, b):
    """N:M:G placement by placement, rows of b in registers, in C++."""
    return prepare(a, b)
