"""Dense: the code of `actmm_up_dots` on all neurons, for what is due to skipping, and what to the code.

Bad at: every sparsity.
"""

from suite.kernel import kernel
from suite.kernels.actmm_up.actmm_up_dots import prepare, refuse


@kernel(
    op="actmm_up",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    dense=True,
    refuse=refuse,
    live_order="columns",
)
def actmm_up_dense_dots(w, cut, x, g):
    """The rows of all neurons times the activations, in C++."""
    return prepare(w, cut, x, g)
