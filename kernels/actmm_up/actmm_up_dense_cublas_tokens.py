"""Dense on a GPU: the product, token-major in and out, by cuBLAS, then times the gate.

Bad at: every sparsity.
"""

from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.actmm_up.gated import gated
from suite.kernels.spmm import spmm_dense_cublas_tokens
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, refuse


@kernel(op="actmm_up", on="cuda", dtypes=DTYPES, dense=True, refuse=refuse, live_order="columns")
def actmm_up_dense_cublas_tokens(w, cut, x, g):
    """torch.mm on cuBLAS, token-major, on all neurons, then times the gate."""
    return gated(spmm_dense_cublas_tokens.spmm_dense_cublas_tokens.prepare(Whole(w), x))
