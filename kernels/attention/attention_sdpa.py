"""Dense: torch's attention, all blocks, by whichever of its routines it picks for the machine.

Bad at: every sparsity, that is the point. Heads that share keys are read anew for each of them.
"""

import torch

from suite.kernel import Prepared, kernel

DTYPES = ("float32", "bfloat16", "float16")


def prepare(q, k, causal):
    heads, groups = len(q), len(k)

    def run(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(
            q[None], k[None], v[None], is_causal=causal, enable_gqa=heads != groups
        )[0]

    return Prepared(run, values=0, metadata=0)


@kernel(op="attention", on="cpu", dtypes=DTYPES, dense=True)
def attention_sdpa(a, q, k, v):
    """torch's scaled_dot_product_attention."""
    return prepare(q, k, causal=False)
