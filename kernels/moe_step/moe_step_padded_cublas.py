"""Padded to capacity on a GPU, forward and back: batched products of cuBLAS, as `moe_step_padded_torch`.

The host waits for the highest load, so the wall clock times it. Bad at: what that is bad at.
"""

from suite.kernel import kernel
from suite.kernels.moe_step import moe_step_padded_torch as forward
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full


@kernel(op="moe_step", on="cuda", dtypes=DTYPES, isa=("sm_80",), refuse=forward.refuse)
def moe_step_padded_cublas(route, up, down, x, logits, dy):
    """Batched products of rows padded to the highest load, forward and back, by cuBLAS."""
    in_full()
    return forward.moe_step_padded_torch.prepare(route, up, down, x, logits, dy)
