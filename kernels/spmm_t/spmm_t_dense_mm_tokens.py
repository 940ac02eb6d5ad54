"""Dense: the transposed weight with its zeros in place, token-major in and out, as `spmm_dense_mm_tokens`.

Bad at: every sparsity, that is the point.
"""

from suite.formats.columns import transposed
from suite.formats.dense import too_large
from suite.kernel import kernel
from suite.kernels.spmm import spmm_dense_mm_tokens as forward


@kernel(
    op="spmm_t",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=too_large,
    live_order="columns",
)
def spmm_t_dense_mm_tokens(a, dy):
    """torch.mm of gradients and the weight, both token-major."""
    return forward.spmm_dense_mm_tokens.prepare(transposed(a), dy)
