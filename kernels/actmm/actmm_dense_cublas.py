"""Dense on a GPU: the product with activations in rows, by cuBLAS, as `spmm_dense_cublas`.

Bad at: every sparsity.
"""

from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_cublas


@kernel(op="actmm", on="cuda", dtypes=spmm_dense_cublas.DTYPES, dense=True, refuse=spmm_dense_cublas.refuse)
def actmm_dense_cublas(w, cut, x):
    """torch.mm on cuBLAS, activations in rows, on all neurons."""
    return spmm_dense_cublas.spmm_dense_cublas.prepare(Whole(w), x)
