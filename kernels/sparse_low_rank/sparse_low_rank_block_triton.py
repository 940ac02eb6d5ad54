"""Blocks on tensor cores in Triton, as `spmm_block_triton`, and two thin products by cuBLAS.

Bad at: what that is bad at; few columns, where three launches are the time.
"""

from suite.kernel import kernel
from suite.kernels.sparse_low_rank.thin import with_low_rank
from suite.kernels.spmm import spmm_block_triton as forward
from suite.kernels.spmm.spmm_dense_cublas import in_full


@kernel(
    op="sparse_low_rank",
    on="cuda",
    dtypes=("float32", "bfloat16", "float16"),
    isa=("sm_80",),
    refuse=forward.refuse,
    ids=("pixelfly",),
)
def sparse_low_rank_block_triton(a, u, v, x):
    """Block rows in Triton, then two thin products."""
    in_full()
    return with_low_rank(forward.spmm_block_triton.prepare(a, x), u, v, x)
