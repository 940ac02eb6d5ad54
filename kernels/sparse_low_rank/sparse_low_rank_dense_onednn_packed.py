"""Dense: both parts added up beforehand, as oneDNN reorders it, as `spmm_dense_onednn_packed`.

Bad at: every saving that the parts make.
"""

from suite.formats.low_rank import added
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_onednn_packed as forward


@kernel(
    op="sparse_low_rank",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=forward.refuse,
    live_order="columns",
)
def sparse_low_rank_dense_onednn_packed(a, u, v, x):
    """oneDNN's reordered product."""
    return forward.spmm_dense_onednn_packed.prepare(Whole(added(a, u, v)), x)
