"""Row-wise product in SciPy: one thread, and a sum for every column of `b`, with a list of those in use.

Leaves out what sums to zero, and columns out of order. Bad at: wide matrices, whose sums fill the caches; it
uses one core, and allocates its answer after a pass that counts it.
"""

from suite.kernel import Prepared, kernel
from suite.ops.spgemm import multiplications


@kernel(op="spgemm", on="cpu")
def spgemm_csr_scipy(a, b):
    """SciPy's csr_array @ csr_array."""

    def run(a, b):
        return a.scipy() @ b.scipy()

    return Prepared(run, executed=2 * multiplications(a, b), values=0, metadata=0)
