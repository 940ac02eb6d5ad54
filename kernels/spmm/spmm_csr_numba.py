"""Compressed rows in Numba: a thread takes runs of rows of equal work, and adds row after row of `b`.

The whole row of the answer is the inner loop, so at many columns it is fetched again for each nonzero: that
is what it is bad at, and what tiles in C++ mend. Compiled in seconds at the first call of a process. Sums
keep their order (no fastmath) except for n = 1, where without reordering there are no vectors at all.
"""

import numba
import numpy as np
import torch

from suite.kernel import Prepared, kernel

SHARE = 8  # runs of rows a thread
ROW = 4  # what a row costs beside its nonzeros, counted in nonzeros


@numba.njit(parallel=True)
def multiply(edges, starts, columns, values, b, out):
    for run in numba.prange(len(edges) - 1):
        for row in range(edges[run], edges[run + 1]):
            sums = out[row]
            sums[:] = 0
            for at in range(starts[row], starts[row + 1]):
                value = values[at]
                scaled = b[columns[at]]
                for j in range(len(sums)):
                    sums[j] += value * scaled[j]


@numba.njit(parallel=True, fastmath={"reassoc", "contract"})
def multiply_vector(edges, starts, columns, values, b, out):
    for run in numba.prange(len(edges) - 1):
        for row in range(edges[run], edges[run + 1]):
            total = np.float32(0)
            for at in range(starts[row], starts[row + 1]):
                total += values[at] * b[columns[at]]
            out[row] = total


@kernel(op="spmm", on="cpu", dtypes=("float32",))
def spmm_csr_numba(a, b):
    """Row-parallel compressed rows, compiled by Numba."""
    m, n = a.shape[0], b.shape[1]
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    starts, columns, values = (x.numpy() for x in (a.starts, a.columns, a.values))
    work = starts + ROW * np.arange(m + 1)
    edges = np.searchsorted(work, np.linspace(0, work[-1], SHARE * threads + 1)).clip(0, m)
    edges[0], edges[-1] = 0, m
    out = np.empty((m, n), np.float32)

    def run(b):
        numba.set_num_threads(threads)
        if n == 1:
            multiply_vector(edges, starts, columns, values, b.numpy()[:, 0], out[:, 0])
        else:
            multiply(edges, starts, columns, values, b.numpy(), out)
        return out

    run(b)  # compiles
    return Prepared(
        run,
        executed=2 * a.nonzeros * n,
        values=values.nbytes,
        metadata=starts.nbytes + columns.nbytes + edges.nbytes,
        holds=(edges, starts, columns, values, out),
        note={"threads": threads},
    )
