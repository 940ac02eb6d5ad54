"""Dense: the transposed weight as MKL packs it, as `spmm_dense_mkl_packed`.

Bad at: processors of other makers than MKL.
"""

from suite.formats.columns import transposed
from suite.kernel import kernel
from suite.kernels.spmm import spmm_dense_mkl_packed as forward


@kernel(
    op="spmm_t",
    on="cpu",
    dtypes=("float32",),
    dense=True,
    refuse=forward.refuse,
    live_order="columns",
)
def spmm_t_dense_mkl_packed(a, dy):
    """MKL's packed product with the transpose."""
    return forward.spmm_dense_mkl_packed.prepare(transposed(a), dy)
