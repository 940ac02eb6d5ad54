"""Dense on a GPU on random numbers throughout: the product of the weight before it was pruned, by cuBLAS.

No baseline, for it multiplies other numbers than sparse kernels do. But a product of zeros toggles fewer
bits, draws less power, and under a power limit runs faster: what dense costs in joules is what this costs.
Bad at: nothing that `spmm_dense_cublas` is not bad at.
"""

from suite.kernel import kernel
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, refuse, spmm_dense_cublas


@kernel(op="spmm", on="cuda", dtypes=DTYPES, execution="dense", refuse=refuse)
def spmm_filled_cublas(a, b):
    """torch.mm on cuBLAS of a weight without zeros, `b` in rows."""
    return spmm_dense_cublas.prepare(a, b)
