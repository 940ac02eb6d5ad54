"""Dense: both parts added up beforehand, as MKL packs it, as `spmm_dense_mkl_packed`.

Bad at: every saving that the parts make.
"""

from suite.formats.low_rank import added
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mkl_packed as forward


@kernel(
    op="sparse_low_rank",
    on="cpu",
    dtypes=("float32",),
    dense=True,
    refuse=forward.refuse,
    live_order="columns",
)
def sparse_low_rank_dense_mkl_packed(a, u, v, x):
    """MKL's packed product."""
    return forward.spmm_dense_mkl_packed.prepare(Whole(added(a, u, v)), x)
