"""Dense on a GPU on random numbers throughout, token-major in and out, by cuBLAS: see `spmm_filled_cublas`.

Bad at: nothing that `spmm_dense_cublas_tokens` is not bad at.
"""

from suite.kernel import kernel
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, refuse
from suite.kernels.spmm.spmm_dense_cublas_tokens import spmm_dense_cublas_tokens


@kernel(op="spmm", on="cuda", dtypes=DTYPES, execution="dense", refuse=refuse, live_order="columns")
def spmm_filled_cublas_tokens(a, b):
    """torch.mm on cuBLAS of activations and a weight without zeros, both token-major."""
    return spmm_dense_cublas_tokens.prepare(a, b)
