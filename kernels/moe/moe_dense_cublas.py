"""Dense on a GPU: every expert on every token, by cuBLAS, as `moe_dense_mm`.

Bad at: every sparsity, that is the point.
"""

from suite.kernel import kernel
from suite.kernels.moe import moe_dense_mm as forward
from suite.kernels.moe.on_gpu import on_gpu
from suite.kernels.spmm.spmm_dense_cublas import DTYPES


@kernel(op="moe", on="cuda", dtypes=DTYPES, isa=("sm_80",), dense=True, refuse=forward.refuse)
def moe_dense_cublas(route, up, down, x, logits):
    """Every expert on every token, in two products of cuBLAS."""
    return on_gpu(forward.moe_dense_mm, route, up, down, x, logits)
