"""Dense on a GPU: the weight times one token, by cuBLAS, as `spmm_dense_cublas_mv`.

Bad at: every sparsity.
"""

from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_cublas_mv
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, refuse


@kernel(op="actmm", on="cuda", dtypes=DTYPES, dense=True, refuse=refuse, only={"n": 1})
def actmm_dense_cublas_mv(w, cut, x):
    """torch.mv on cuBLAS, on all neurons."""
    return spmm_dense_cublas_mv.spmm_dense_cublas_mv.prepare(Whole(w), x)
