"""One expert after the other on a GPU, forward and back, by cuBLAS, as `moe_step_loop_torch`.

The host waits for the loads before it knows what to launch, so the wall clock times it. Bad at: many experts
of few tokens, where launches are most of the time.
"""

from suite.kernel import kernel
from suite.kernels.moe_step import moe_step_loop_torch as forward
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full


@kernel(op="moe_step", on="cuda", dtypes=DTYPES, isa=("sm_80",))
def moe_step_loop_cublas(route, up, down, x, logits, dy):
    """A loop over the experts that have tokens, and one back, by cuBLAS."""
    in_full()
    return forward.moe_step_loop_torch.prepare(route, up, down, x, logits, dy)
