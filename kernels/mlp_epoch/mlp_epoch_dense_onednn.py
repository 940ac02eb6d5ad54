"""Dense: as `mlp_epoch_dense_mm`, by oneDNN. Bad at: every sparsity."""

from suite.kernel import kernel
from suite.kernels.mlp_epoch import mlp_epoch_dense_mm as dense
from suite.kernels.sparse_step.sparse_step_dense_onednn import onednn, refuse


@kernel(op="mlp_epoch", on="cpu", dtypes=("float32",), dense=True, refuse=refuse, live_order="columns")
def mlp_epoch_dense_onednn(pattern, values, x):
    """Dense products by oneDNN; what is learnt is masked."""
    return dense.prepare(pattern, x, onednn)
