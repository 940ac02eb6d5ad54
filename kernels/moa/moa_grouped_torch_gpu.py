"""torch's grouped product on a GPU around its attention, on copied tokens, as `moa_grouped_torch`.

One launch for all experts where torch has a kernel for the chip (sm_90), a loop elsewhere. How many choices
there are the host waits to hear, so the wall clock times it. Bad at: memory, and calls too short to wait in.
"""

from suite.kernel import kernel
from suite.kernels.moa import moa_grouped_torch as forward
from suite.kernels.moe.moe_grouped_torch import UNIT, refuse
from suite.kernels.spmm.spmm_dense_cublas import in_full


@kernel(
    op="moa", on="cuda", dtypes=("bfloat16",), isa=("sm_80",), divides={"d": UNIT, "f": UNIT}, refuse=refuse
)
def moa_grouped_torch_gpu(route, wq, wo, x, logits, k, v):
    """torch's grouped_mm on tokens copied for each of their choices, around torch's attention."""
    in_full()
    return forward.moa_grouped_torch.prepare(route, wq, wo, x, logits, k, v)
