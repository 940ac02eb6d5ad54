"""Masked on a GPU: activations that do not reach their cut set to zero, then the dense product.

What `actmm_masked_mm` does, by cuBLAS. Bad at: every sparsity.
"""

from suite.kernel import kernel
from suite.kernels.actmm.actmm_masked_mm import actmm_masked_mm
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full, refuse


@kernel(op="actmm", on="cuda", dtypes=DTYPES, execution="masked", refuse=refuse)
def actmm_masked_cublas(w, cut, x):
    """torch.mm on cuBLAS and torch.where."""
    in_full()
    return actmm_masked_mm.prepare(w, cut, x)
