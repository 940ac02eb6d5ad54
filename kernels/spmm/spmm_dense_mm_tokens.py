"""Dense: a linear layer's product, token-major in and out, into an answer that is there already.

What F.linear computes without its allocation. Bad at: few tokens, for which some libraries have no short way.
"""

import torch

from suite.formats.dense import too_large
from suite.kernel import Prepared, kernel


@kernel(
    op="spmm",
    on="cpu",
    dtypes=("float32", "bfloat16", "float16"),
    dense=True,
    refuse=too_large,
    live_order="columns",
)
def spmm_dense_mm_tokens(a, b):
    """torch.mm of activations and weight, both token-major."""
    weight = a.dense
    out = b.new_empty(b.shape[1], a.shape[0])

    def run(b):
        return torch.mm(b.t(), weight.t(), out=out).t()

    return Prepared(run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight, out))
