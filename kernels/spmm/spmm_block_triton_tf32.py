"""Blocks on tensor cores in TF32, in Triton: what blocks_triton.py says, for numbers of 10 bits of mantissa.

Bad at: what `spmm_block_triton` is bad at, tensor cores apart.
"""

from suite.kernel import kernel
from suite.kernels.spmm import spmm_block_triton as forward


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("tfloat32",),
    isa=("sm_80",),
    refuse=forward.refuse,
    ids=forward.IDS,
)
def spmm_block_triton_tf32(a, b):
    """Block rows in Triton, TF32."""
    return forward.blocks.prepare(a, b, precision="tf32")
