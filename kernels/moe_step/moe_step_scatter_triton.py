"""A training step of scattered experts on a GPU, in Triton: what scatter_step_triton.py says.

Bad at: experts of one or two tokens, whose tiles are mostly empty; one expert that has most tokens, whose
gradients few programs go through; in float32 there are no tensor cores.
"""

from suite.cuda.terms import in_triton
from suite.kernel import kernel
from suite.kernels.moe.moe_scatter_triton import DTYPES, refuse

scatter = in_triton("suite.kernels.moe_step.scatter_step_triton")


@kernel(op="moe_step", on="cuda", dtypes=DTYPES, isa=("sm_80",), refuse=refuse, ids=("scattermoe",))
def moe_step_scatter_triton(route, up, down, x, logits, dy):
    """Experts on scattered tokens forward and back, nothing padded or copied, in Triton."""
    return scatter.prepare(route, up, down, x, logits, dy)
