"""Dense: the transposed weight as oneDNN reorders it, as `spmm_dense_onednn_packed`.

Bad at: what that is bad at.
"""

from suite.formats.columns import transposed
from suite.kernel import kernel
from suite.kernels.spmm import spmm_dense_onednn_packed as forward


@kernel(
    op="spmm_t",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=forward.refuse,
    live_order="columns",
)
def spmm_t_dense_onednn_packed(a, dy):
    """oneDNN's reordered product with the transpose."""
    return forward.spmm_dense_onednn_packed.prepare(transposed(a), dy)
