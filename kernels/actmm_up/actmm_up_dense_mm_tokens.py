"""Dense: the product, token-major in and out, as `spmm_dense_mm_tokens`, then times the gate.

Bad at: every sparsity, and what that is bad at.
"""

from suite.formats.dense import too_large
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.actmm_up.gated import gated
from suite.kernels.spmm import spmm_dense_mm_tokens as forward


@kernel(
    op="actmm_up",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=too_large,
    live_order="columns",
)
def actmm_up_dense_mm_tokens(w, cut, x, g):
    """torch.mm, token-major, then times the gate."""
    return gated(forward.spmm_dense_mm_tokens.prepare(Whole(w), x))
