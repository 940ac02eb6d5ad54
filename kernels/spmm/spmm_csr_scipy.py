"""Compressed rows in SciPy: one thread, one loop.

Bad at: everything but being everywhere. It uses one core and allocates its answer.
"""

from suite.kernel import Prepared, kernel


@kernel(op="spmm", on="cpu", dtypes=("float32",))
def spmm_csr_scipy(a, b):
    """SciPy's csr_array @ array."""
    held = a.scipy()

    def run(b):
        return held @ b.numpy()

    arrays = (held.indptr, held.indices, held.data)
    metadata = held.indptr.nbytes + held.indices.nbytes
    return Prepared(run, 2 * a.nonzeros * b.shape[1], held.data.nbytes, metadata, arrays)
