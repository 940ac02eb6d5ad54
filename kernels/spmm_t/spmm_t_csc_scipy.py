"""Compressed columns in SciPy: the compressed rows of the weight, read as columns of its transpose.

It needs no second copy, but adds to rows of the answer all over the place. Bad at: everything but being
everywhere. It uses one core and allocates its answer.
"""

from suite.kernel import Prepared, kernel


@kernel(op="spmm_t", on="cpu", dtypes=("float32",))
def spmm_t_csc_scipy(a, dy):
    """SciPy's csc_array @ array."""
    held = a.scipy().T

    def run(dy):
        return held @ dy.numpy()

    arrays = (held.indptr, held.indices, held.data)
    metadata = held.indptr.nbytes + held.indices.nbytes
    return Prepared(run, 2 * a.nonzeros * dy.shape[1], held.data.nbytes, metadata, arrays)
