"""Dense: a linear layer whose weight oneDNN has reordered, as `spmm_dense_onednn_packed`.

Bad at: every sparsity, and what that is bad at.
"""

from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_onednn_packed as forward


@kernel(
    op="actmm",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=forward.refuse,
    live_order="columns",
)
def actmm_dense_onednn_packed(w, cut, x):
    """oneDNN's reordered product, on all neurons."""
    return forward.spmm_dense_onednn_packed.prepare(Whole(w), x)
