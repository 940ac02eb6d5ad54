"""Dense: both parts added up beforehand, on a GPU, token-major in and out, as `spmm_dense_cublas_tokens`.

Bad at: every saving that the parts make.
"""

from suite.formats.low_rank import added
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_cublas_tokens as forward


@kernel(
    op="sparse_low_rank",
    on="cuda",
    dtypes=forward.DTYPES,
    dense=True,
    refuse=forward.refuse,
    live_order="columns",
)
def sparse_low_rank_dense_cublas_tokens(a, u, v, x):
    """torch.mm on cuBLAS of activations and weight, both token-major."""
    return forward.spmm_dense_cublas_tokens.prepare(Whole(added(a, u, v)), x)
