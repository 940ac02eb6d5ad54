"""Dense: the weight times one token, as `spmm_dense_mv`.

Bad at: every sparsity, and what that is bad at.
"""

from suite.formats.dense import too_large
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mv as forward


@kernel(
    op="actmm",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    only={"n": 1},
    refuse=too_large,
)
def actmm_dense_mv(w, cut, x):
    """torch.mv, on all neurons."""
    return forward.spmm_dense_mv.prepare(Whole(w), x)
