"""Truly sparse: values, gradients and velocity are as many numbers as there are nonzeros, nothing is dense.

The products are those of `sparse_step_tiled`. Bad at: layers that are more than half full; very sparse ones,
in which the activations are most of the work.
"""

from suite.kernel import kernel
from suite.kernels.mlp_epoch import training
from suite.kernels.sparse_step import sparse_step_tiled as step


@kernel(op="mlp_epoch", on="cpu", dtypes=("float32",), refuse=step.refuse, ids=("nerva", "sparseprop"))
def mlp_epoch_tiled(pattern, values, x):
    """Compressed rows in column tiles, in C++."""
    library = step.compiled()
    return training.prepare(pattern, x, lambda layer, n: step.Layer(layer, n, library))
