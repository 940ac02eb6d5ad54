"""Compressed rows on the GPU's ordinary arithmetic, in Triton: what rows_triton.py says.

Bad at: everything a dense product is good at: a row of `b` is loaded from L2 for each nonzero, which at many
columns only some 99 % zeros pay for, in 16 bits more than in float32, where there are no tensor cores to be
idle.
"""

from suite.cuda.terms import in_triton, no_triton
from suite.kernel import kernel

rows = in_triton("suite.kernels.spmm.rows_triton")


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    isa=("sm_80",),
    refuse=no_triton,
)
def spmm_csr_triton(a, b):
    """Row segments in Triton, long ones first."""
    return rows.prepare(a, b)
