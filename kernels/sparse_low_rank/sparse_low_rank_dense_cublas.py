"""Dense: both parts added up beforehand, on a GPU, as `spmm_dense_cublas`.

Bad at: every saving that the parts make.
"""

from suite.formats.low_rank import added
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_cublas as forward


@kernel(
    op="sparse_low_rank",
    on="cuda",
    dtypes=forward.DTYPES,
    dense=True,
    refuse=forward.refuse,
)
def sparse_low_rank_dense_cublas(a, u, v, x):
    """torch.mm on cuBLAS, `x` in rows."""
    return forward.spmm_dense_cublas.prepare(Whole(added(a, u, v)), x)
