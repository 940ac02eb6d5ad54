"""Transposed blocks on tensor cores, in Triton: an index by columns over the blocks as the forward has them.

The values are not copied: a layer that is trained has one weight, and its input gradient reads it turned.
Bad at: what `spmm_block_triton` is bad at; here the width of a block is what shares a loaded row, and that is
at most 64.
"""

from suite.kernel import kernel
from suite.kernels.spmm import spmm_block_triton as forward


@kernel(
    op="spmm_t",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    isa=("sm_80",),
    refuse=forward.refuse,
    ids=forward.IDS,
)
def spmm_t_block_triton(a, dy):
    """Block columns in Triton, from the forward's values."""
    return forward.blocks.prepare(a, dy, turned=True)
