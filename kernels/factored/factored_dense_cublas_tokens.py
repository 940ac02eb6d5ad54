"""Dense: the factors multiplied out, on a GPU, token-major in and out, as `spmm_dense_cublas_tokens`.

Bad at: every saving that the factors make.
"""

from suite.formats.factors import product
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_cublas_tokens as forward


@kernel(
    op="factored",
    on="cuda",
    dtypes=forward.DTYPES,
    dense=True,
    refuse=forward.refuse,
    live_order="columns",
)
def factored_dense_cublas_tokens(a, x):
    """torch.mm on cuBLAS of activations and weight, both token-major."""
    return forward.spmm_dense_cublas_tokens.prepare(Whole(product(a)), x)
