"""Dense: a linear layer whose weight MKL has packed, as `spmm_dense_mkl_packed`.

Bad at: every sparsity, and what that is bad at.
"""

from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.spmm import spmm_dense_mkl_packed as forward


@kernel(op="actmm", on="cpu", dtypes=("float32",), dense=True, refuse=forward.refuse, live_order="columns")
def actmm_dense_mkl_packed(w, cut, x):
    """MKL's packed product, on all neurons."""
    return forward.spmm_dense_mkl_packed.prepare(Whole(w), x)
