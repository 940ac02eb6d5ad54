"""Masked: weights times a mask in every step, and their gradients too: what Nerva is held against.

Bad at: every sparsity; it does the dense work and some more.
"""

from suite.kernel import kernel
from suite.kernels.mlp_epoch import mlp_epoch_dense_mm as dense
from suite.kernels.sparse_step import sparse_step_dense_mm as step


@kernel(
    op="mlp_epoch",
    on="cpu",
    dtypes=("float32",),
    dense=True,
    execution="masked",
    refuse=step.refuse,
    live_order="columns",
    ids=("nerva",),
)
def mlp_epoch_masked_mm(pattern, values, x):
    """Dense products by torch.mm, weights and gradients masked."""
    return dense.prepare(pattern, x, step.mm, dense.Masked)
