"""Dense: both parts added up beforehand, times one vector, as `spmm_dense_mv`.

Bad at: every saving that the parts make.
"""

from suite.formats.dense import too_large
from suite.formats.low_rank import added
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mv as forward


@kernel(
    op="sparse_low_rank",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    dense=True,
    only={"n": 1},
    refuse=too_large,
)
def sparse_low_rank_dense_mv(a, u, v, x):
    """torch.mv of the sum of the weights."""
    return forward.spmm_dense_mv.prepare(Whole(added(a, u, v)), x)
