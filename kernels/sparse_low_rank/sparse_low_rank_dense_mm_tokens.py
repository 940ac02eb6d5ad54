"""Dense: both parts added up beforehand, token-major in and out, as `spmm_dense_mm_tokens`.

Bad at: every saving that the parts make.
"""

from suite.formats.dense import too_large
from suite.formats.low_rank import added
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mm_tokens as forward


@kernel(
    op="sparse_low_rank",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=too_large,
    live_order="columns",
)
def sparse_low_rank_dense_mm_tokens(a, u, v, x):
    """torch.mm of activations and the sum of the weights, both token-major."""
    return forward.spmm_dense_mm_tokens.prepare(Whole(added(a, u, v)), x)
