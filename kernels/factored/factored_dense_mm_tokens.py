"""Dense: the factors multiplied out beforehand, token-major in and out, as `spmm_dense_mm_tokens`.

Bad at: every saving that the factors make.
"""

from suite.formats.dense import too_large
from suite.formats.factors import product
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mm_tokens as forward


@kernel(
    op="factored",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=too_large,
    live_order="columns",
)
def factored_dense_mm_tokens(a, x):
    """torch.mm of activations and the product of the factors, both token-major."""
    return forward.spmm_dense_mm_tokens.prepare(Whole(product(a)), x)
