"""Dense: the factors multiplied out beforehand, as `spmm_dense_mm`.

Bad at: every saving that the factors make.
"""

from suite.formats.dense import too_large
from suite.formats.factors import product
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mm as forward


@kernel(
    op="factored",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=too_large,
)
def factored_dense_mm(a, x):
    """torch.mm, `x` in rows, of the product of the factors."""
    return forward.spmm_dense_mm.prepare(Whole(product(a)), x)
