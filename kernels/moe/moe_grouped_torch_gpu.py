"""torch's grouped product on a GPU, for tokens copied into the order of experts, as `moe_grouped_torch`.

One launch for all experts where torch has a kernel for the chip (sm_90), a loop elsewhere. How many choices
there are the host waits to hear, so the wall clock times it. Bad at: memory, and calls too short to wait in.
"""

from suite.kernel import kernel
from suite.kernels.moe import moe_grouped_torch as forward
from suite.kernels.spmm.spmm_dense_cublas import in_full


@kernel(
    op="moe",
    on="cuda",
    dtypes=("bfloat16",),
    isa=("sm_80",),
    divides={"d": forward.UNIT, "f": forward.UNIT},
    refuse=forward.refuse,
)
def moe_grouped_torch_gpu(route, up, down, x, logits):
    """torch's grouped_mm on tokens copied for each of their choices."""
    in_full()
    return forward.moe_grouped_torch.prepare(route, up, down, x, logits)
