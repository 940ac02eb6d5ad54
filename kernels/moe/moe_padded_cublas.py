"""Padded to capacity on a GPU: one batched product of cuBLAS for all experts, as `moe_padded_torch`.

The host waits for the highest load, so the wall clock times it. Bad at: what that is bad at.
"""

from suite.kernel import kernel
from suite.kernels.moe import moe_padded_torch as forward
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full


@kernel(op="moe", on="cuda", dtypes=DTYPES, isa=("sm_80",), refuse=forward.refuse)
def moe_padded_cublas(route, up, down, x, logits):
    """Batched products of rows padded to the highest load, by cuBLAS."""
    in_full()
    return forward.moe_padded_torch.prepare(route, up, down, x, logits)
