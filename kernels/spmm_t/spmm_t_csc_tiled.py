"""Compressed columns in tiles, in C++: rows of the transpose, made once, as `spmm_csr_tiled` multiplies them.

That is a second copy of the weight, which `sparse_step_tiled`, whose values change, does without.
Bad at: what `spmm_csr_tiled` is bad at.
"""

from suite.formats.columns import transposed
from suite.kernel import kernel
from suite.kernels.spmm import spmm_csr_tiled as forward


@kernel(
    op="spmm_t", on="cpu", dtypes=("float32", "bfloat16"), refuse=forward.refuse, ids=("sparseprop", "nerva")
)
def spmm_t_csc_tiled(a, dy):
    """The transpose in compressed rows, in column tiles against packed panels of dy, in C++."""
    return forward.spmm_csr_tiled.prepare(transposed(a), dy)
