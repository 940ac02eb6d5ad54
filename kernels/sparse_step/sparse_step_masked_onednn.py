"""Masked: as `sparse_step_masked_mm`, by oneDNN. Bad at: every sparsity."""

from suite.kernel import kernel
from suite.kernels.sparse_step import sparse_step_dense_mm as dense
from suite.kernels.sparse_step.sparse_step_dense_onednn import onednn, refuse


@kernel(
    op="sparse_step",
    on="cpu",
    dtypes=("float32",),
    dense=True,
    execution="masked",
    refuse=refuse,
    live_order="columns",
)
def sparse_step_masked_onednn(pattern, values, x, dy):
    """Three dense products by oneDNN, and a mask."""
    return dense.prepare(pattern, x, onednn, masked=True)
