"""Dense: the factors multiplied out beforehand, as oneDNN reorders it, as `spmm_dense_onednn_packed`.

Bad at: every saving that the factors make.
"""

from suite.formats.factors import product
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_onednn_packed as forward


@kernel(
    op="factored",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=forward.refuse,
    live_order="columns",
)
def factored_dense_onednn_packed(a, x):
    """oneDNN's reordered product."""
    return forward.spmm_dense_onednn_packed.prepare(Whole(product(a)), x)
