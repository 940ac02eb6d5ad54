"""Dense: a linear layer, its weight reordered by oneDNN, as `spmm_dense_onednn_packed`, then times the gate.

Bad at: every sparsity, and what that is bad at.
"""

from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.actmm_up.gated import gated
from suite.kernels.spmm import spmm_dense_onednn_packed as forward


@kernel(
    op="actmm_up",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=forward.refuse,
    live_order="columns",
)
def actmm_up_dense_onednn_packed(w, cut, x, g):
    """oneDNN's reordered product, then times the gate."""
    return gated(forward.spmm_dense_onednn_packed.prepare(Whole(w), x))
