"""Dense on a GPU: the product with activations in rows, by cuBLAS, then times the gate.

Bad at: every sparsity.
"""

from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.actmm_up.gated import gated
from suite.kernels.spmm import spmm_dense_cublas


@kernel(
    op="actmm_up", on="cuda", dtypes=spmm_dense_cublas.DTYPES, dense=True, refuse=spmm_dense_cublas.refuse
)
def actmm_up_dense_cublas(w, cut, x, g):
    """torch.mm on cuBLAS, activations in rows, on all neurons, then times the gate."""
    return gated(spmm_dense_cublas.spmm_dense_cublas.prepare(Whole(w), x))
