"""One expert after the other on a GPU, by cuBLAS and torch's attention, as `moa_loop_torch`.

The host waits for the loads before it knows what to launch, so the wall clock times it. Bad at: many experts
of few tokens, where launches are most of the time.
"""

from suite.kernel import kernel
from suite.kernels.moa import moa_loop_torch as forward
from suite.kernels.spmm.spmm_dense_cublas import DTYPES, in_full


@kernel(op="moa", on="cuda", dtypes=DTYPES, isa=("sm_80",))
def moa_loop_cublas(route, wq, wo, x, logits, k, v):
    """A loop over the experts that have tokens, around torch's attention, and one back, by cuBLAS."""
    in_full()
    return forward.moa_loop_torch.prepare(route, wq, wo, x, logits, k, v)
