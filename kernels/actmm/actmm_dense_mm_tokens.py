"""Dense: the product, token-major in and out, as `spmm_dense_mm_tokens`.

Bad at: every sparsity, and what that is bad at.
"""

from suite.formats.dense import too_large
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mm_tokens as forward


@kernel(
    op="actmm",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=too_large,
    live_order="columns",
)
def actmm_dense_mm_tokens(w, cut, x):
    """torch.mm, token-major, on all neurons."""
    return forward.spmm_dense_mm_tokens.prepare(Whole(w), x)
