"""Truly sparse, by the products of `sparse_step_csr_torch`, most of them MKL's as in Nerva.

Bad at: many samples.
"""

from suite.kernel import kernel
from suite.kernels.mlp_epoch import training
from suite.kernels.sparse_step import sparse_step_csr_torch as step


@kernel(op="mlp_epoch", on="cpu", dtypes=("float32",), ids=("nerva",))
def mlp_epoch_csr_torch(pattern, values, x):
    """torch CSR: mm twice, and sampled_addmm."""
    return training.prepare(pattern, x, step.Layer)
