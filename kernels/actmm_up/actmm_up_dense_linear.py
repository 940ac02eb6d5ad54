"""Dense: a linear layer as a model has it, as `spmm_dense_linear`, then times the gate.

Bad at: every sparsity, and what that is bad at.
"""

from suite.formats.dense import too_large
from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.actmm_up.gated import gated
from suite.kernels.spmm import spmm_dense_linear as forward


@kernel(
    op="actmm_up",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=too_large,
    live_order="columns",
)
def actmm_up_dense_linear(w, cut, x, g):
    """F.linear, then times the gate."""
    return gated(forward.spmm_dense_linear.prepare(Whole(w), x))
