"""Masked: as `mlp_epoch_masked_mm`, by oneDNN. Bad at: every sparsity."""

from suite.kernel import kernel
from suite.kernels.mlp_epoch import mlp_epoch_dense_mm as dense
from suite.kernels.sparse_step.sparse_step_dense_onednn import onednn, refuse


@kernel(
    op="mlp_epoch",
    on="cpu",
    dtypes=("float32",),
    dense=True,
    execution="masked",
    refuse=refuse,
    live_order="columns",
)
def mlp_epoch_masked_onednn(pattern, values, x):
    """Dense products by oneDNN, weights and gradients masked."""
    return dense.prepare(pattern, x, onednn, dense.Masked)
