"""Scattered heads on a GPU, in Triton: what heads_triton.py says.

Bad at: experts of one or two tokens, whose tiles are mostly empty; in float32 there are no tensor cores.
"""

from suite.cuda.terms import in_triton
from suite.kernel import kernel
from suite.kernels.attention.attention_block_triton import SIZES
from suite.kernels.attention.every import LEAST
from suite.kernels.moe import moe_scatter_triton as forward

heads = in_triton("suite.kernels.moa.heads_triton")


def refuse(case, device):
    reasons = forward.refuse(case, device)
    if case["f"] not in SIZES:
        reasons.append(f"needs f to be one of {', '.join(map(str, SIZES))}, got {case['f']}")
    return reasons


@kernel(
    op="moa",
    on="cuda",
    dtypes=forward.DTYPES,
    isa=("sm_80",),
    divides={"n": LEAST},
    refuse=refuse,
    ids=("scattermoe",),
)
def moa_scatter_triton(route, wq, wo, x, logits, k, v):
    """Experts on scattered tokens around flash attention, nothing padded or copied, in Triton."""
    return heads.prepare(route, wq, wo, x, logits, k, v)
