"""Dense: the whole product by oneDNN, and of it what is stored. It allocates it. Bad at: every sparsity."""

from suite.kernel import kernel
from suite.kernels.sddmm import sddmm_dense_mm as dense
from suite.kernels.sparse_step.sparse_step_dense_onednn import onednn, refuse


@kernel(op="sddmm", on="cpu", dtypes=("float32",), dense=True, refuse=refuse)
def sddmm_dense_onednn(mask, dy, x):
    """oneDNN's product of all of it, then the stored positions."""
    return dense.prepare(mask, x, onednn)
