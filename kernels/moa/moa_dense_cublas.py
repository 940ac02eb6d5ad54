"""Dense on a GPU: every expert on every token, by cuBLAS and torch's attention, as `moa_dense_mm`.

Bad at: every sparsity, that is the point.
"""

from suite.kernel import kernel
from suite.kernels.moa import moa_dense_mm as forward
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full


@kernel(op="moa", on="cuda", dtypes=DTYPES, isa=("sm_80",), dense=True, refuse=forward.refuse)
def moa_dense_cublas(route, wq, wo, x, logits, k, v):
    """Every expert on every token, in two products of cuBLAS around torch's attention."""
    in_full()
    return forward.moa_dense_mm.prepare(route, wq, wo, x, logits, k, v)
