"""Dense on a GPU: the product, token-major in and out, by cuBLAS, as `spmm_dense_cublas_tokens`.

Bad at: every sparsity.
"""

from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_cublas_tokens
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, refuse


@kernel(op="actmm", on="cuda", dtypes=DTYPES, dense=True, refuse=refuse, live_order="columns")
def actmm_dense_cublas_tokens(w, cut, x):
    """torch.mm on cuBLAS, token-major, on all neurons."""
    return spmm_dense_cublas_tokens.spmm_dense_cublas_tokens.prepare(Whole(w), x)
