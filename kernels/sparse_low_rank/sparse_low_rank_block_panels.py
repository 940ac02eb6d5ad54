"""Blocks in C++, as `spmm_block_panels`, and two thin products by torch.

Bad at: what that is bad at; a rank so low that the thin products are all fetching and storing.
"""

from suite.kernel import kernel
from suite.kernels.sparse_low_rank.thin import with_low_rank
from suite.kernels.spmm import spmm_block_panels as forward


@kernel(
    op="sparse_low_rank",
    on="cpu",
    dtypes=("float32", "bfloat16"),
    refuse=forward.refuse,
    ids=("pixelfly",),
)
def sparse_low_rank_block_panels(a, u, v, x):
    """Blocks against packed panels, in C++, then two thin products."""
    return with_low_rank(forward.spmm_block_panels.prepare(a, x), u, v, x)
