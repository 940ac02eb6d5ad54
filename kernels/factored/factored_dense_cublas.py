"""Dense: the factors multiplied out beforehand, on a GPU, as `spmm_dense_cublas`.

Bad at: every saving that the factors make.
"""

from suite.formats.factors import product
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_cublas as forward


@kernel(
    op="factored",
    on="cuda",
    dtypes=forward.DTYPES,
    dense=True,
    refuse=forward.refuse,
)
def factored_dense_cublas(a, x):
    """torch.mm on cuBLAS, `x` in rows."""
    return forward.spmm_dense_cublas.prepare(Whole(product(a)), x)
