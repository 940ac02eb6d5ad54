"""Dense: both parts added up beforehand, as `spmm_dense_mm`.

Bad at: every saving that the parts make.
"""

from suite.formats.dense import too_large
from suite.formats.low_rank import added
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mm as forward


@kernel(
    op="sparse_low_rank",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=too_large,
)
def sparse_low_rank_dense_mm(a, u, v, x):
    """torch.mm, `x` in rows, with the sum of the weights."""
    return forward.spmm_dense_mm.prepare(Whole(added(a, u, v)), x)
