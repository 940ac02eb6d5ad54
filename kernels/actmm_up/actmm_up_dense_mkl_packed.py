"""Dense: a linear layer whose weight MKL has packed, as `spmm_dense_mkl_packed`, then times the gate.

Bad at: every sparsity, and what that is bad at.
"""

from suite.kernel import kernel
from suite.kernels.actmm.whole import Whole
from suite.kernels.actmm_up.gated import gated
from suite.kernels.spmm import spmm_dense_mkl_packed as forward


@kernel(op="actmm_up", on="cpu", dtypes=("float32",), dense=True, refuse=forward.refuse, live_order="columns")
def actmm_up_dense_mkl_packed(w, cut, x, g):
    """MKL's packed product, then times the gate."""
    return gated(forward.spmm_dense_mkl_packed.prepare(Whole(w), x))
