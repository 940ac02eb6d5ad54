"""Compressed rows in torch, as `spmm_csr_torch`, and two thin products by torch.

Bad at: what that is bad at; it has its answer fetched and stored once more.
"""

from suite.kernel import kernel
from suite.kernels.sparse_low_rank.thin import with_low_rank
from suite.kernels.spmm import spmm_csr_torch as forward


@kernel(op="sparse_low_rank", on="cpu", dtypes=("float32",), refuse=forward.refuse, ids=("pixelfly",))
def sparse_low_rank_csr_torch(a, u, v, x):
    """torch CSR on MKL, then two thin products."""
    return with_low_rank(forward.spmm_csr_torch.prepare(a, x), u, v, x)
