"""torch's grouped product on a GPU, forward and back, on copies for each choice, as `moe_step_grouped_torch`.

One launch for all experts where torch has a kernel for the chip (sm_90), a loop elsewhere. How many choices
there are the host waits to hear, so the wall clock times it. Bad at: memory, and calls too short to wait in.
"""

from suite.kernel import kernel
from suite.kernels.moe.moe_grouped_torch import UNIT, refuse
from suite.kernels.moe_step import moe_step_grouped_torch as forward
from suite.kernels.spmm.spmm_dense_cublas import in_full


@kernel(
    op="moe_step",
    on="cuda",
    dtypes=("bfloat16",),
    isa=("sm_80",),
    divides={"d": UNIT, "f": UNIT},
    refuse=refuse,
)
def moe_step_grouped_torch_gpu(route, up, down, x, logits, dy):
    """torch's grouped_mm six times, on copies for each choice."""
    in_full()
    return forward.moe_step_grouped_torch.prepare(route, up, down, x, logits, dy)
