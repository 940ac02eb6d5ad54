"""Dense: a linear layer as a model has it, token-major in and out.

The answer is the transpose of what the layer returns. Bad at: it allocates its answer, as F.linear does.
"""

import torch.nn.functional as F

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
def spmm_dense_linear(a, b):
    """F.linear on token-major activations."""
    weight = a.dense

    def run(b):
        return F.linear(b.t(), weight).t()

    return Prepared(run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight,))
