"""Dense on a GPU: attention in full by the code of attention_block_triton.py.

Its blocks are as large as the sequence allows, up to 128 tokens, whatever those of the mask are: nothing is
left out, so there is no reason for small ones. Bad at: every sparsity, that is the point.
"""

from suite.cuda.terms import no_triton
from suite.kernel import kernel
from suite.kernels.attention.attention_block_triton import DTYPES, ISA, SIZES, flash
from suite.kernels.attention.every import LEAST, every


def refuse(case, device):
    reasons = no_triton()
    if case["n"] % LEAST:
        reasons.append(f"needs n divisible by {LEAST}, got {case['n']}")
    if case["d"] not in SIZES:
        reasons.append(f"needs d to be one of {', '.join(map(str, SIZES))}, got {case['d']}")
    return reasons


@kernel(op="attention", on="cuda", dtypes=DTYPES, isa=ISA, refuse=refuse, dense=True)
def attention_flash_triton(a, q, k, v):
    """Flash attention over all blocks, in Triton."""
    return flash.prepare(every(a, q, causal=False), q, k, v, causal=False)
