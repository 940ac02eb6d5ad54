"""Dense: the factors multiplied out beforehand, times one vector, as `spmm_dense_mv`.

Bad at: every saving that the factors make.
"""

from suite.formats.dense import too_large
from suite.formats.factors import product
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mv as forward


@kernel(op="factored", on="cpu", dtypes=("float32", "bfloat16"), dense=True, only={"n": 1}, refuse=too_large)
def factored_dense_mv(a, x):
    """torch.mv of the product of the factors."""
    return forward.spmm_dense_mv.prepare(Whole(product(a)), x)
