"""Compressed rows on the GPU's ordinary arithmetic, in Triton: what rows_triton.py says.

Bad at: everything a dense product is good at: a row of `b` is loaded from L2 for each nonzero, which at many
columns only some 99 % zeros pay for, in 16 bits more than in float32, where there are no tensor cores to be
idle.
"""

from suite.kernel import kernel
from suite.kernels.spmm.spmm_block_triton import absent

try:
    from suite.kernels.spmm import rows_triton as rows
except ModuleNotFoundError as missing:
    if missing.name != "triton":
        raise
    rows = None


def refuse(case, device):
    return absent()


@kernel(
    op="spmm",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    isa=("sm_80",),
    refuse=refuse,
)
def spmm_csr_triton(a, b):
    """Row segments in Triton, long ones first."""
    return rows.prepare(a, b)
