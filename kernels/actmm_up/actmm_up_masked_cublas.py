"""Masked on a GPU: the dense product times the gate where it reaches its cut and zero elsewhere.

What `actmm_up_masked_mm` does, by cuBLAS. Bad at: every sparsity.
"""

from suite.kernel import kernel
from suite.kernels.actmm_up.actmm_up_masked_mm import actmm_up_masked_mm
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full, refuse


@kernel(op="actmm_up", on="cuda", dtypes=DTYPES, execution="masked", refuse=refuse)
def actmm_up_masked_cublas(w, cut, x, g):
    """torch.mm on cuBLAS and torch.where."""
    in_full()
    return actmm_up_masked_mm.prepare(w, cut, x, g)
