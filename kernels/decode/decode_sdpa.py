"""Dense: torch's attention with one query a head, by whichever of its routines it picks for the machine.

Heads that share keys are laid out as queries of one head, so that keys are read once for all of them.
Bad at: every sparsity, that is the point.
"""

import torch

from suite.kernel import Prepared, kernel


@kernel(op="decode", on="cpu", dtypes=("float32", "bfloat16", "float16"), dense=True)
def decode_sdpa(a, k, v, q):
    """torch's scaled_dot_product_attention, the queries of a group side by side."""
    n, h, d = q.shape
    groups = k.shape[1]

    def run(q):
        grouped = q.view(n, groups, h // groups, d)
        return torch.nn.functional.scaled_dot_product_attention(grouped, k, v).view(n, h, d)

    return Prepared(run, values=k.nbytes + v.nbytes, metadata=0, holds=(k, v))
