"""One expert after the other on a GPU, by cuBLAS, as `moe_loop_torch`.

The host waits for the loads before it knows what to launch, so the wall clock times it. Bad at: many experts
of few tokens, where launches are most of the time.
"""

from suite.kernel import kernel
from suite.kernels.moe import moe_loop_torch as forward
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full


@kernel(op="moe", on="cuda", dtypes=DTYPES, isa=("sm_80",))
def moe_loop_cublas(route, up, down, x, logits):
    """A loop over the experts that have tokens, by cuBLAS."""
    in_full()
    return forward.moe_loop_torch.prepare(route, up, down, x, logits)
