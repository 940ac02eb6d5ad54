"""Dense on a GPU: every expert on every token, forward and back, by cuBLAS, as `moe_step_dense_mm`.

Bad at: every sparsity, that is the point.
"""

from suite.kernel import kernel
from suite.kernels.moe_step import moe_step_dense_mm as forward
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full


@kernel(op="moe_step", on="cuda", dtypes=DTYPES, isa=("sm_80",), dense=True, refuse=forward.refuse)
def moe_step_dense_cublas(route, up, down, x, logits, dy):
    """Every expert on every token, forward and back, by cuBLAS."""
    in_full()
    return forward.moe_step_dense_mm.prepare(route, up, down, x, logits, dy)
