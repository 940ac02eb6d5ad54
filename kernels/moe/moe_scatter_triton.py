"""Scattered experts on a GPU, in Triton: what scatter_triton.py says.

Bad at: experts of one or two tokens, whose tiles are mostly empty, though weights from memory are most of it
then; in float32 there are no tensor cores.
"""

from suite.cuda.terms import in_triton, no_triton
from suite.kernel import kernel

scatter = in_triton("suite.kernels.moe.scatter_triton")

DTYPES = ("float32", "bfloat16", "float16")
MOST = 512  # experts, whose logits one program looks at


def refuse(case, device):
    reasons = no_triton()
    if case["e"] > MOST:
        reasons.append(f"needs at most {MOST} experts, got e={case['e']}")
    return reasons


@kernel(op="moe", on="cuda", dtypes=DTYPES, isa=("sm_80",), refuse=refuse, ids=("scattermoe",))
def moe_scatter_triton(route, up, down, x, logits):
    """Experts on scattered tokens, nothing padded or copied, in Triton."""
    return scatter.prepare(route, up, down, x, logits)
