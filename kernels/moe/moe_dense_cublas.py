"""Dense on a GPU: every expert on every token, by cuBLAS, as `moe_dense_mm`.

Bad at: every sparsity, that is the point.
"""

from suite.kernel import kernel
from suite.kernels.moe import moe_dense_mm as forward
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full


@kernel(op="moe", on="cuda", dtypes=DTYPES, isa=("sm_80",), dense=True, refuse=forward.refuse)
def moe_dense_cublas(route, up, down, x, logits):
    """Every expert on every token, in two products of cuBLAS."""
    in_full()
    return forward.moe_dense_mm.prepare(route, up, down, x, logits)
