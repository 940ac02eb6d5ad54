"""Dense: the code of `actmm_axpy` on all neurons, for what is due to skipping, and what to the code.

Bad at: every sparsity.
"""

from suite.kernel import kernel
from suite.kernels.actmm.actmm_axpy import prepare, refuse


@kernel(op="actmm", on="cpu", dtypes=("float32", "bfloat16"), dense=True, refuse=refuse)
def actmm_dense_axpy(w, cut, x):
    """The rows of all neurons, added up, in C++."""
    return prepare(w, cut, x)
