"""Dense: the weight with its zeros in place, times token-major activations.

Both operands run along k; the answer is written row by row. Bad at: nothing in particular; which order wins
is the library's secret, and so each is tried.
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
def spmm_dense_mm_columns(a, b):
    """torch.mm, `b` in columns."""
    weight = a.dense
    out = b.new_empty(a.shape[0], b.shape[1])

    def run(b):
        return torch.mm(weight, b, out=out)

    return Prepared(run, 2 * weight.numel() * b.shape[1], weight.nbytes, 0, (weight, out))
