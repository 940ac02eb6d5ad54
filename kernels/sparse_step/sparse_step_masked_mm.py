"""Masked: the weight times its mask before it is used, its gradient times the mask after.

What sparse training is in most programs. Bad at: every sparsity; it does the dense work and some more.
"""

from suite.kernel import kernel
from suite.kernels.sparse_step import sparse_step_dense_mm as dense


@kernel(
    op="sparse_step",
    on="cpu",
    dtypes=("float32",),
    dense=True,
    execution="masked",
    refuse=dense.refuse,
    live_order="columns",
    ids=("nerva",),
)
def sparse_step_masked_mm(pattern, values, x, dy):
    """Three dense products by torch.mm, and a mask."""
    return dense.prepare(pattern, x, dense.mm, masked=True)
