"""Compressed rows in Numba: a thread takes runs of rows of equal work, and adds row after row of `b`.

The whole row of the answer is the inner loop, so at many columns it is fetched again for each nonzero: that
is what it is bad at, and what tiles in C++ mend. Compiled in seconds at the first call of a process. Sums
keep their order (no fastmath) except for n = 1, where without reordering there are no vectors at all.
"""

from functools import cache

import numpy as np
import torch

from suite.kernel import Prepared, kernel

try:
    import numba

    ABSENT = ""
except ModuleNotFoundError:  # an extra: without it the kernel is there, and says what it wants
    numba, ABSENT = None, "needs numba, which is not installed here: pip install numba"
except ImportError as failed:  # one that this NumPy is too new for
    numba, ABSENT = None, f"needs numba, which does not load here: {failed}"

SHARE = 8  # runs of rows a thread
ROW = 4  # what a row costs beside its nonzeros, counted in nonzeros


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


def multiply_vector(edges, starts, columns, values, b, out):
    for run in numba.prange(len(edges) - 1):
        for row in range(edges[run], edges[run + 1]):
            total = np.float32(0)
            for at in range(starts[row], starts[row + 1]):
                total += values[at] * b[columns[at]]
            out[row] = total


@cache
def jitted(vector):
    """One for the process: each compiles at its first call."""
    if vector:
        return numba.njit(parallel=True, fastmath={"reassoc", "contract"})(multiply_vector)
    return numba.njit(parallel=True)(multiply)


def refuse(case, device):
    return [ABSENT] if ABSENT else []


@kernel(op="spmm", on="cpu", dtypes=("float32",), refuse=refuse)
def spmm_csr_numba(a, b):
    """Row-parallel compressed rows, compiled by Numba."""
    m, n = a.shape[0], b.shape[1]
    threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    starts, columns, values = (x.numpy() for x in (a.starts, a.columns, a.values))
    work = starts + ROW * np.arange(m + 1)
    edges = np.searchsorted(work, np.linspace(0, work[-1], SHARE * threads + 1)).clip(0, m)
    edges[0], edges[-1] = 0, m
    out = np.empty((m, n), np.float32)
    product = jitted(n == 1)

    def run(b):
        numba.set_num_threads(threads)
        if n == 1:
            product(edges, starts, columns, values, b.numpy()[:, 0], out[:, 0])
        else:
            product(edges, starts, columns, values, b.numpy(), out)
        return out

    return Prepared(
        run,
        executed=2 * a.nonzeros * n,
        values=values.nbytes,
        metadata=starts.nbytes + columns.nbytes + edges.nbytes,
        holds=(edges, starts, columns, values, out),
        note={"threads": threads},
    )
